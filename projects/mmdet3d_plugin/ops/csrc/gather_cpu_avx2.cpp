// The CPU kernels that gather weighted cells for the "avx2" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "gather_call.h"

namespace focal {
namespace avx2 {
#include "simd.h"
#include "gather_kernels.h"
}  // namespace avx2

template <>
const GatherKernels<float>* avx2_gather_kernels() {
  return avx2::gather_table<float>();
}

template <>
const GatherKernels<double>* avx2_gather_kernels() {
  return avx2::gather_table<double>();
}
}  // namespace focal
