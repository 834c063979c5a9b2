// The CPU kernels that gather weighted cells for the "avx512" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "gather_call.h"

namespace focal {
namespace avx512 {
#include "simd.h"
#include "gather_kernels.h"
}  // namespace avx512

template <>
const GatherKernels<float>* avx512_gather_kernels() {
  return avx512::gather_table<float>();
}

template <>
const GatherKernels<double>* avx512_gather_kernels() {
  return avx512::gather_table<double>();
}
}  // namespace focal
