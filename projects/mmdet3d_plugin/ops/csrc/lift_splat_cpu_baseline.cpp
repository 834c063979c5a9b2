// The CPU kernels of lift-splat pooling for the "baseline" instruction set; build.py gives this file its
// flags.
#include <cstddef>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "lift_splat_call.h"

namespace focal {
namespace baseline {
// clang-format off
#include "simd.h"
#include "lift_splat_kernels.h"
// clang-format on
}  // namespace baseline

template <>
const SplatKernels<float>* baseline_splat_kernels() {
  return baseline::splat_table<float>();
}

template <>
const SplatKernels<double>* baseline_splat_kernels() {
  return baseline::splat_table<double>();
}
}  // namespace focal
