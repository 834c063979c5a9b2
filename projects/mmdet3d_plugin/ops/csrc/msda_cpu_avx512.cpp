// The CPU attention kernels for the "avx512" instruction set; build.py gives this file its flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "msda_call.h"

namespace focal {
namespace avx512 {
#include "simd.h"
#include "msda_kernels.h"
}  // namespace avx512

template <>
const Kernels<float>* avx512_kernels() {
  return avx512::table<float>("avx512");
}

template <>
const Kernels<double>* avx512_kernels() {
  return avx512::table<double>("avx512");
}
}  // namespace focal
