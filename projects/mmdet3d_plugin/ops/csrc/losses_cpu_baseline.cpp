// The CPU kernels of the distillation losses for the "baseline" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "losses_call.h"

namespace focal {
namespace baseline {
#include "simd.h"
#include "losses_kernels.h"
}  // namespace baseline

template <>
const LossKernels<float>* baseline_loss_kernels() {
  return baseline::loss_table<float>();
}

template <>
const LossKernels<double>* baseline_loss_kernels() {
  return baseline::loss_table<double>();
}
}  // namespace focal
