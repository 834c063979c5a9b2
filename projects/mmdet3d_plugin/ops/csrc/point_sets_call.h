// What sampling and grouping of points ask of a CPU kernel. Plain data only, as in msda_call.h.
#pragma once
#include <cstdint>

namespace focal {

// Coordinates of one cloud, an array for each axis with room for a whole vector at its end.
template <class T>
struct PointPlanes {
  const T *x, *y, *z;
  int64_t count;
};

template <class T>
struct PointSetKernels {
  // Chooses `wanted` <= count points, the first point first, then always the one furthest from those chosen.
  // `nearest` is scratch memory like a plane.
  void (*furthest)(const PointPlanes<T>& points, int64_t wanted, T* nearest, int64_t* rows);
  // The first `most` points nearer than the square root of `radius_squared`; returns their number.
  int64_t (*near)(const PointPlanes<T>& points, const T* place, T radius_squared, int64_t most,
                  int64_t* rows);
};

template <class T>
const PointSetKernels<T>* baseline_point_set_kernels();
template <class T>
const PointSetKernels<T>* avx2_point_set_kernels();
template <class T>
const PointSetKernels<T>* avx512_point_set_kernels();

}  // namespace focal
