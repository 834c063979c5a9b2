// What gathering weighted cells asks of a CPU kernel. Plain data only, as in msda_call.h.
#pragma once
#include <cstdint>

namespace focal {

constexpr int kCorners = 4;  // of a bilinear look-up

// A row adds up pairs begin[row] .. begin[row + 1); a pair has kCorners cells of each level.
template <class T>
struct GatherCall {
  const T* const* levels = nullptr;  // each (cells, channels)
  int64_t num_levels = 0, channels = 0;
  const int64_t* begin = nullptr;
  const int64_t* index = nullptr;  // (pairs, num_levels, kCorners): cell of its level, or -1 for none
  const T* weight = nullptr;       // of the same shape
};

template <class T>
struct GatherKernels {
  // out (rows, channels) of rows [first, last).
  void (*forward)(const GatherCall<T>&, int64_t first, int64_t last, T* out);
  // Gradient of the weights that belong to rows [first, last); 0 where there is no cell.
  void (*weights)(const GatherCall<T>&, const T* grad, int64_t first, int64_t last, T* grad_weight);
  // Adds the gradient of channels [from, to) of all cells that rows [0, rows) name.
  void (*cells)(const GatherCall<T>&, const T* grad, int64_t rows, int64_t from, int64_t to,
                T* const* grad_levels);
};

template <class T>
const GatherKernels<T>* baseline_gather_kernels();
template <class T>
const GatherKernels<T>* avx2_gather_kernels();
template <class T>
const GatherKernels<T>* avx512_gather_kernels();

}  // namespace focal
