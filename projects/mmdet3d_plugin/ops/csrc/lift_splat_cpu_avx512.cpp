// The CPU kernels of lift-splat pooling for the "avx512" instruction set; build.py gives this file its flags.
#include <cstddef>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "lift_splat_call.h"

namespace focal {
namespace avx512 {
// clang-format off
#include "simd.h"
#include "lift_splat_kernels.h"
// clang-format on
}  // namespace avx512

template <>
const SplatKernels<float>* avx512_splat_kernels() {
  return avx512::splat_table<float>();
}

template <>
const SplatKernels<double>* avx512_splat_kernels() {
  return avx512::splat_table<double>();
}
}  // namespace focal
