// The CPU attention kernels for the "avx2" instruction set; build.py gives this file its flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "msda_call.h"

namespace focal {
namespace avx2 {
#include "simd.h"
#include "msda_kernels.h"
}  // namespace avx2

template <>
const Kernels<float>* avx2_kernels() {
  return avx2::table<float>("avx2");
}

template <>
const Kernels<double>* avx2_kernels() {
  return avx2::table<double>("avx2");
}
}  // namespace focal
