#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace focal {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

}  // namespace

Isa chosen_isa() {
  static const Isa best = best_isa();
  const char* held = std::getenv("FOCALDISTILLER_ISA");
  if (held == nullptr) return best;
  const Isa limit = std::strcmp(held, "baseline") == 0 ? Isa::baseline
                    : std::strcmp(held, "avx2") == 0   ? Isa::avx2
                                                       : best;
  return limit < best ? limit : best;
}

}  // namespace focal
