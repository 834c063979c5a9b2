// Multi-scale deformable attention on one core. Compiled once per instruction set inside namespace
// focal::FOCAL_ISA, which is why the headers below have no guards: each translation unit includes them
// exactly once, in this order.
//
// The points of a block of rows are planned together (vectors run over points: cell indices, bilinear
// weights, softmax), then gathered (vectors run over channels). Points that miss the map are dropped between
// the two steps, or lead to an empty cell, so nothing that lies outside of a map is ever read or added.

// clang-format off
#include "msda_block.h"
#include "msda_plan.h"
#include "msda_fetch.h"
#include "msda_slices.h"
#include "msda_forward.h"
#include "msda_backward.h"
// clang-format on

template <class T>
static size_t direct_bytes(const Call<T>&) {
  return sizeof(Block<T>);
}

template <class T>
static size_t slice_bytes(const Call<T>& call, int slices, bool backward) {
  Arena arena{nullptr};
  arena.take<Block<T>>(1);
  const int64_t padded = padded_channels(call);
  if (backward) arena.take<T>(kBlock * padded);
  for (int k = 0; k < slices; k++) arena.take<T>((call.cells + 1) * padded);
  return arena.used;
}

template <class T>
static const Kernels<T>* table(const char* name) {
  static constexpr int width = Simd<T>::width;
  static const Kernels<T> kernels{name,
                                  width,
                                  direct_bytes<T>,
                                  slice_bytes<T>,
                                  forward_direct<T>,
                                  backward_direct<T>,
                                  forward_slice<T>,
                                  backward_slice<T>};
  return &kernels;
}
