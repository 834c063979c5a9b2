// Which instruction set the kernels of this process use: the best that the processor has.
#pragma once

namespace focal {

enum class Isa { baseline, avx2, avx512 };

// FOCALDISTILLER_ISA=avx2 or baseline holds the choice down; read at every call, so that tests can compare.
Isa chosen_isa();

}  // namespace focal
