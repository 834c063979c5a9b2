// The CPU kernels that gather weighted cells for the "baseline" instruction set; build.py gives this file its
// flags.
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "gather_call.h"

namespace focal {
namespace baseline {
#include "simd.h"
#include "gather_kernels.h"
}  // namespace baseline

template <>
const GatherKernels<float>* baseline_gather_kernels() {
  return baseline::gather_table<float>();
}

template <>
const GatherKernels<double>* baseline_gather_kernels() {
  return baseline::gather_table<double>();
}
}  // namespace focal
