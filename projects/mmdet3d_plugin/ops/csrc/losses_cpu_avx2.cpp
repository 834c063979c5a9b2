// The CPU kernels of the distillation losses for the "avx2" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "losses_call.h"

namespace focal {
namespace avx2 {
#include "simd.h"
#include "losses_kernels.h"
}  // namespace avx2

template <>
const LossKernels<float>* avx2_loss_kernels() {
  return avx2::loss_table<float>();
}

template <>
const LossKernels<double>* avx2_loss_kernels() {
  return avx2::loss_table<double>();
}
}  // namespace focal
