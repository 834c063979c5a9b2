// The CPU attention kernels for the "baseline" instruction set; build.py gives this file its flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "msda_call.h"

namespace focal {
namespace baseline {
#include "simd.h"
#include "msda_kernels.h"
}  // namespace baseline

template <>
const Kernels<float>* baseline_kernels() {
  return baseline::table<float>("baseline");
}

template <>
const Kernels<double>* baseline_kernels() {
  return baseline::table<double>("baseline");
}
}  // namespace focal
