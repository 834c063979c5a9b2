// What lift-splat pooling asks of a CPU kernel. Plain data only, as in msda_call.h.
#pragma once
#include <cstdint>

namespace focal {

// A (views, K, rows, columns) tensor in any layout.
template <class T>
struct Map {
  T* data;
  int64_t view, item, row, column;  // strides, in elements
};

// Where pixels lie on the grid: a pixel's point at depth d is at origin + d * ray, in cells (x, y) and, for
// the height, in units of the range: what is kept lies within [0, 1) there.
struct SplatGeometry {
  const double* origin;  // (views, 3)
  const double* ray;     // (views, rows, columns, 3)
  const double* bins;    // (num_bins,) depths
  int64_t num_bins, rows, columns, height, width;
  bool truncate;  // round towards zero: the first cell of each axis reaches one cell further out
};

template <class T>
struct SplatKernels {
  // Bytes of working memory for `channels` channels, going forward or back.
  int64_t (*scratch)(const SplatGeometry& g, int64_t channels, bool back);
  // Adds views first .. last - 1 to channels from .. to - 1 of one sample's grid (height, width, channels).
  void (*forward)(const SplatGeometry& g, Map<const T> depth, Map<const T> context, int64_t first,
                  int64_t last, int64_t from, int64_t to, int64_t channels, T* grid, void* scratch);
  // Gradients of the pixels in columns from .. to - 1 of one view; `grad` is its sample's (height, width,
  // channels).
  void (*backward)(const SplatGeometry& g, Map<const T> depth, Map<const T> context, int64_t view,
                   int64_t from, int64_t to, int64_t channels, const T* grad, Map<T> grad_depth,
                   Map<T> grad_context, void* scratch);
};

constexpr int64_t kTile = 16;  // rows and columns of pixels that are read together

template <class T>
const SplatKernels<T>* baseline_splat_kernels();
template <class T>
const SplatKernels<T>* avx2_splat_kernels();
template <class T>
const SplatKernels<T>* avx512_splat_kernels();

}  // namespace focal
