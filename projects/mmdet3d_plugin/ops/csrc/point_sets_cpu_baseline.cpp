// The CPU kernels that sample and group points, for the "baseline" instruction set; build.py gives this file
// its flags.
#include <limits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "point_sets_call.h"

namespace focal {
namespace baseline {
#include "simd.h"
#include "point_sets_kernels.h"
}  // namespace baseline

template <>
const PointSetKernels<float>* baseline_point_set_kernels() {
  return baseline::point_set_table<float>();
}

template <>
const PointSetKernels<double>* baseline_point_set_kernels() {
  return baseline::point_set_table<double>();
}
}  // namespace focal
