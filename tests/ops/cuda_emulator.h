// Enough of CUDA to run the kernels of csrc/*.cu on a CPU, one warp at a time, a fiber per lane.
// Lanes meet at __syncwarp and at shuffles; a lane that leaves while others wait is an error, as on a GPU.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned a, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float f) {
    uint32_t u;
    std::memcpy(&u, &f, 4);
    bits = static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};
using __half = _Float16;

namespace emulator {

constexpr int kLanes = 32;
inline ucontext_t scheduler, lanes[kLanes];
inline std::vector<char> stacks[kLanes];
inline int lane, arrived, generation, finished;
inline uint64_t slots[2][kLanes];
inline std::vector<uint4> shared_memory;
inline std::function<void()> body;
inline dim3 thread(0), block(0), block_size(1);
inline unsigned first_thread;

inline void yield() {
  const int self = lane;
  swapcontext(&lanes[self], &scheduler);
  lane = self;
  thread.x = first_thread + self;
}

// Returns the number of the meeting.
inline int meet() {
  const int meeting = generation;
  if (finished > 0) {
    std::fprintf(stderr, "a lane left the warp before others were done\n");
    std::abort();
  }
  if (++arrived == kLanes) {
    arrived = 0;
    generation++;
  }
  while (generation == meeting) yield();
  return meeting;
}

inline void start() {
  body();
  finished++;
  while (true) swapcontext(&lanes[lane], &scheduler);
}

inline void run_warp() {
  arrived = generation = finished = 0;
  for (int k = 0; k < kLanes; k++) {
    stacks[k].resize(1 << 16);
    getcontext(&lanes[k]);
    lanes[k].uc_stack.ss_sp = stacks[k].data();
    lanes[k].uc_stack.ss_size = stacks[k].size();
    lanes[k].uc_link = nullptr;
    makecontext(&lanes[k], start, 0);
  }
  for (int turn = 0; finished < kLanes; turn++) {
    lane = turn % kLanes;
    thread.x = first_thread + lane;
    swapcontext(&scheduler, &lanes[lane]);
  }
}

inline void launch(dim3 grid, int threads, size_t bytes, std::function<void()> kernel) {
  body = std::move(kernel);
  block_size = dim3(threads);
  for (block.y = 0; block.y < grid.y; block.y++) {
    for (block.x = 0; block.x < grid.x; block.x++) {
      shared_memory.assign(bytes / sizeof(uint4) + 1, uint4{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu});
      for (first_thread = 0; first_thread < static_cast<unsigned>(threads); first_thread += kLanes) run_warp();
    }
  }
}

}  // namespace emulator

#define threadIdx emulator::thread
#define blockIdx emulator::block
#define blockDim emulator::block_size

inline void __syncwarp() { emulator::meet(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const int self = emulator::lane, meeting = emulator::generation;
  std::memcpy(&emulator::slots[meeting & 1][self], &value, sizeof(T));
  emulator::meet();
  T other;
  std::memcpy(&other, &emulator::slots[meeting & 1][self ^ mask], sizeof(T));
  return other;
}

template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}

inline float __expf(float x) { return std::exp(x); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
using std::exp;
using std::floor;
