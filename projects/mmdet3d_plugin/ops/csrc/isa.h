// Which instruction set the kernels of this process use: the best that the processor has.
#pragma once

namespace focal {

enum class Isa { baseline, avx2, avx512 };

// FOCALDISTILLER_ISA=avx2 or baseline holds the choice down; read at every call, so that tests can compare.
Isa chosen_isa();

// What one of three functions returns. The others are not called: their files are compiled for instructions
// that this processor may not have.
template <class Table>
const Table& kernels_for(const Table* (*baseline)(), const Table* (*avx2)(), const Table* (*avx512)()) {
  const Isa isa = chosen_isa();
  return *(isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : baseline)();
}

}  // namespace focal

// FOCAL_KERNELS(name<T>): the table of avx512_name<T>(), avx2_name<T>() or baseline_name<T>().
#if defined(__x86_64__)
#define FOCAL_KERNELS(name) kernels_for(&baseline_##name, &avx2_##name, &avx512_##name)
#else
#define FOCAL_KERNELS(name) *baseline_##name()
#endif
