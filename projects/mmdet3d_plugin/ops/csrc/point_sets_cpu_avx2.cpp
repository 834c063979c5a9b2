// The CPU kernels that sample and group points, for the "avx2" instruction set; build.py gives this file
// its flags.
#include <limits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "point_sets_call.h"

namespace focal {
namespace avx2 {
#include "simd.h"
#include "point_sets_kernels.h"
}  // namespace avx2

template <>
const PointSetKernels<float>* avx2_point_set_kernels() {
  return avx2::point_set_table<float>();
}

template <>
const PointSetKernels<double>* avx2_point_set_kernels() {
  return avx2::point_set_table<double>();
}
}  // namespace focal
