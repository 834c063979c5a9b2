// The CPU kernels of the distillation losses for the "avx512" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "losses_call.h"

namespace focal {
namespace avx512 {
#include "simd.h"
#include "losses_kernels.h"
}  // namespace avx512

template <>
const LossKernels<float>* avx512_loss_kernels() {
  return avx512::loss_table<float>();
}

template <>
const LossKernels<double>* avx512_loss_kernels() {
  return avx512::loss_table<double>();
}
}  // namespace focal
