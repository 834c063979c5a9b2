// The CPU kernels that sample and group points, for the "avx512" instruction set; build.py gives this file
// its flags.
#include <limits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "point_sets_call.h"

namespace focal {
namespace avx512 {
#include "simd.h"
#include "point_sets_kernels.h"
}  // namespace avx512

template <>
const PointSetKernels<float>* avx512_point_set_kernels() {
  return avx512::point_set_table<float>();
}

template <>
const PointSetKernels<double>* avx512_point_set_kernels() {
  return avx512::point_set_table<double>();
}
}  // namespace focal
