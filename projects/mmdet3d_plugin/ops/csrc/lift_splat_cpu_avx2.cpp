// The CPU kernels of lift-splat pooling for the "avx2" instruction set; build.py gives this file its flags.
#include <cstddef>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "lift_splat_call.h"

namespace focal {
namespace avx2 {
// clang-format off
#include "simd.h"
#include "lift_splat_kernels.h"
// clang-format on
}  // namespace avx2

template <>
const SplatKernels<float>* avx2_splat_kernels() {
  return avx2::splat_table<float>();
}

template <>
const SplatKernels<double>* avx2_splat_kernels() {
  return avx2::splat_table<double>();
}
}  // namespace focal
