// Multi-scale deformable attention for sm_80 and later.
//
// A group of G lanes of one warp owns one (row, head); every lane holds 16 bytes of its channels. The group
// plans its points once, one point per lane, into shared memory (offsets and bilinear weights of the four
// corners), then all lanes gather. Points that miss the map are marked and skipped. All arithmetic is in A
// (float, or double for double), coordinates too. Groups never wait for other warps: __syncwarp is the only
// barrier.
//
// Not run on a GPU yet, none was at hand: the tests compile it for sm_80 and sm_90 and run its arithmetic in
// an emulator of warps (tests/ops/cuda_emulator.h).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cassert>
#include <cstring>

#include "msda_cuda.h"

namespace focal {
namespace {

constexpr int kChunk = 16;  // points of a group planned at once
constexpr int kMostThreads = 256;
constexpr unsigned kAll = 0xffffffffu;

template <class T>
struct Arithmetic {
  using type = float;
};
template <>
struct Arithmetic<double> {
  using type = double;
};

template <class A>
struct alignas(16) Plan {
  int offset[4];  // elements from the map's first cell of this head; offset[0] < 0: the point misses the map
  A weight[4];    // attention times bilinear
};

// Position of a point within its cell, for the backward pass.
template <class A>
struct Cell {
  A fx, fy;
  bool x0, x1, y0, y1;  // do the cell's sides lie in the map
};

// ------------------------------------------------------------------------------------------------- memory

template <int VEC, class T, class A>
__device__ __forceinline__ void load_channels(const T* p, A (&to)[VEC]) {
  if constexpr (VEC * sizeof(T) == 16) {
    const uint4 raw = __ldg(reinterpret_cast<const uint4*>(p));
    T parts[VEC];
    memcpy(parts, &raw, 16);
#pragma unroll
    for (int k = 0; k < VEC; k++) to[k] = static_cast<A>(parts[k]);
  } else {
#pragma unroll
    for (int k = 0; k < VEC; k++) to[k] = static_cast<A>(p[k]);
  }
}

template <int VEC, class T, class A>
__device__ __forceinline__ void store_channels(T* p, const A (&from)[VEC]) {
  if constexpr (VEC * sizeof(T) == 16) {
    T parts[VEC];
#pragma unroll
    for (int k = 0; k < VEC; k++) parts[k] = static_cast<T>(from[k]);
    uint4 raw;
    memcpy(&raw, parts, 16);
    *reinterpret_cast<uint4*>(p) = raw;
  } else {
#pragma unroll
    for (int k = 0; k < VEC; k++) p[k] = static_cast<T>(from[k]);
  }
}

// p[k] += from[k], by four at once where the hardware can (sm_90) and the address allows it (VEC > 1).
template <int VEC>
__device__ __forceinline__ void add_channels(float* p, const float (&from)[VEC]) {
#if __CUDA_ARCH__ >= 900
  if constexpr (VEC % 4 == 0) {
#pragma unroll
    for (int k = 0; k < VEC; k += 4) {
      asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p + k), "f"(from[k]),
                   "f"(from[k + 1]), "f"(from[k + 2]), "f"(from[k + 3])
                   : "memory");
    }
  } else
#endif
  {
#pragma unroll
    for (int k = 0; k < VEC; k++) atomicAdd(p + k, from[k]);
  }
}

template <int VEC>
__device__ __forceinline__ void add_channels(double* p, const double (&from)[VEC]) {
#pragma unroll
  for (int k = 0; k < VEC; k++) atomicAdd(p + k, from[k]);
}

// ------------------------------------------------------------------------------------------------- groups

template <class A, class Op>
__device__ __forceinline__ A over_group(A x, int lanes, Op op) {
  for (int step = lanes / 2; step > 0; step /= 2) x = op(x, __shfl_xor_sync(kAll, x, step));
  return x;
}

struct Larger {
  template <class A>
  __device__ A operator()(A a, A b) const {
    return a > b ? a : b;
  }
};

struct Sum {
  template <class A>
  __device__ A operator()(A a, A b) const {
    return a + b;
  }
};

__device__ __forceinline__ float exponential(float x) { return __expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// What a group works on.
struct Task {
  int64_t row, query, map;
  int head, lane;
  bool live;  // false: a group beyond the last row, which computes along and writes nothing
};

__device__ __forceinline__ Task find_task(const CudaCall& call, int lanes) {
  Task task;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / lanes) + threadIdx.x / lanes;
  task.live = row < call.rows;
  task.row = task.live ? row : call.rows - 1;
  task.query = call.pair_query ? call.pair_query[task.row] : task.row;
  task.map = call.pair_value ? call.pair_value[task.row] : task.row / call.rows_per_map;
  task.head = blockIdx.y;
  assert(task.map >= 0 && task.map < call.maps && task.query >= 0 && task.query < call.queries);
  task.lane = threadIdx.x % lanes;
  return task;
}

// Maximum and inverse sum of a group's logits.
template <class A>
struct Softmax {
  A top = 0, inverse = 1;

  __device__ void read(const A* logits, int n, int lane, int lanes) {
    A most = logits[0];
    for (int j = lane; j < n; j += lanes) most = Larger{}(logits[j], most);
    top = over_group(most, lanes, Larger{});
    A sum = 0;
    for (int j = lane; j < n; j += lanes) sum += exponential(logits[j] - top);
    inverse = A(1) / over_group(sum, lanes, Sum{});
  }

  __device__ A weight(A logit) const { return exponential(logit - top) * inverse; }
};

// ------------------------------------------------------------------------------------------------- plan

template <class A>
struct Reader {
  const CudaCall& call;
  const A *points, *weights, *anchors;  // of this row and head
  Softmax<A> softmax;

  __device__ Reader(const CudaCall& c, const Task& task, int lanes) : call(c) {
    const int n = c.num_levels * c.num_points;
    const int64_t at = (task.query * c.heads + task.head) * n;
    points = static_cast<const A*>(c.points) + 2 * at;
    weights = static_cast<const A*>(c.weights) + at;
    anchors = c.anchors ? static_cast<const A*>(c.anchors) + task.row * c.num_anchors * 2 : nullptr;
    if (anchors) softmax.read(weights, n, task.lane, lanes);
  }

  __device__ A attention(int j) const { return anchors ? softmax.weight(weights[j]) : weights[j]; }

  // Plans point j; `cell` is for the backward pass. A NaN coordinate ends where it just misses the map.
  __device__ Plan<A> plan(int j, A attention, Cell<A>& cell) const {
    const int level = j / call.num_points, w = call.width[level], h = call.height[level];
    A x = points[2 * j], y = points[2 * j + 1];
    if (anchors) {
      const int k = j % call.num_points % call.num_anchors;
      x += anchors[2 * k] * w - A(0.5);
      y += anchors[2 * k + 1] * h - A(0.5);
    } else {
      x = x * w - A(0.5);
      y = y * h - A(0.5);
    }
    x = x > A(-2) ? x : A(-2);
    y = y > A(-2) ? y : A(-2);
    x = x < A(w + 1) ? x : A(w + 1);
    y = y < A(h + 1) ? y : A(h + 1);
    const A xf = floor(x), yf = floor(y);
    const int x0 = static_cast<int>(xf), y0 = static_cast<int>(yf);
    cell = {
        x - xf, y - yf, x0 >= 0 && x0 < w, x0 >= -1 && x0 < w - 1, y0 >= 0 && y0 < h, y0 >= -1 && y0 < h - 1};
    const A left = cell.x0 ? 1 - cell.fx : A(0), right = cell.x1 ? cell.fx : A(0);
    const A top = cell.y0 ? attention * (1 - cell.fy) : A(0), bottom = cell.y1 ? attention * cell.fy : A(0);
    const int stride = call.heads * call.channels;
    const int cx0 = max(x0, 0), cx1 = min(x0 + 1, w - 1);
    const int upper = call.start[level] + max(y0, 0) * w, lower = call.start[level] + min(y0 + 1, h - 1) * w;
    const bool alive = (cell.x0 || cell.x1) && (cell.y0 || cell.y1);
    Plan<A> plan = {
        {(upper + cx0) * stride, (upper + cx1) * stride, (lower + cx0) * stride, (lower + cx1) * stride},
        {top * left, top * right, bottom * left, bottom * right}};
    if (!alive) plan.offset[0] = -1;
    return plan;
  }
};

// ------------------------------------------------------------------------------------------------- forward

template <class T, int VEC>
__global__ void __launch_bounds__(kMostThreads)
    forward_kernel(const __grid_constant__ CudaCall call, int lanes) {
  using A = typename Arithmetic<T>::type;
  extern __shared__ uint4 shared[];
  Plan<A>* plans = reinterpret_cast<Plan<A>*>(shared) + threadIdx.x / lanes * kChunk;
  const Task task = find_task(call, lanes);
  const Reader<A> reader(call, task, lanes);
  const int n = call.num_levels * call.num_points;
  const int64_t step = static_cast<int64_t>(call.heads) * call.channels;
  const T* map = static_cast<const T*>(call.value) + task.map * call.cells * step + task.head * call.channels;
  for (int first = 0; first < call.channels; first += lanes * VEC) {
    const int c = first + task.lane * VEC;
    A sum[VEC] = {};
    for (int begin = 0; begin < n; begin += kChunk) {
      const int count = min(kChunk, n - begin);
      __syncwarp();
      for (int t = task.lane; t < count; t += lanes) {
        Cell<A> unused;
        plans[t] = reader.plan(begin + t, reader.attention(begin + t), unused);
      }
      __syncwarp();
      if (c >= call.channels) continue;
#pragma unroll 4
      for (int t = 0; t < count; t++) {
        const Plan<A> plan = plans[t];
        if (plan.offset[0] < 0) continue;
#pragma unroll
        for (int k = 0; k < 4; k++) {
          A corner[VEC];
          load_channels<VEC>(map + plan.offset[k] + c, corner);
#pragma unroll
          for (int i = 0; i < VEC; i++) sum[i] += plan.weight[k] * corner[i];
        }
      }
    }
    if (!task.live || c >= call.channels) continue;
    const int64_t at = task.query * step + task.head * call.channels + c;
    if (call.pair_query) add_channels<VEC>(static_cast<A*>(call.out) + at, sum);
    else store_channels<VEC>(static_cast<T*>(call.out) + at, sum);
  }
}

// ------------------------------------------------------------------------------------------------- backward

// Sums four numbers over a group: afterwards the lanes with lane % 4 == k hold the sum of x[k] (groups of
// fewer than four lanes: every lane holds them all).
template <class A>
__device__ __forceinline__ void sum_four(A (&x)[4], int lane, int lanes) {
  if (lanes < 4) {
#pragma unroll
    for (int k = 0; k < 4; k++) x[k] = over_group(x[k], lanes, Sum{});
    return;
  }
  const bool odd = lane & 1, upper = lane & 2;
  // Exchange with the neighbour: even lanes keep 0 and 2, odd lanes 1 and 3.
  const A first = (odd ? x[1] : x[0]) + __shfl_xor_sync(kAll, odd ? x[0] : x[1], 1);
  const A second = (odd ? x[3] : x[2]) + __shfl_xor_sync(kAll, odd ? x[2] : x[3], 1);
  A mine = (upper ? second : first) + __shfl_xor_sync(kAll, upper ? first : second, 2);
  for (int step = 4; step < lanes; step *= 2) mine += __shfl_xor_sync(kAll, mine, step);
#pragma unroll
  for (int k = 0; k < 4; k++) x[k] = mine;
}

template <class A>
__device__ __forceinline__ void put(A* to, A value, bool add) {
  if (add) atomicAdd(to, value);
  else *to = value;
}

// Gradients of one point from the dots of its corners with the output gradient. Returns attention * its
// gradient.
template <class A>
__device__ __forceinline__ A finish_point(const CudaCall& call, const Task& task, int j, A attention,
                                          const Cell<A>& cell, const A* dots) {
  const int n = call.num_levels * call.num_points, level = j / call.num_points;
  const bool shared = call.pair_query != nullptr;
  const A d0 = cell.x0 && cell.y0 ? dots[0] : A(0), d1 = cell.x1 && cell.y0 ? dots[1] : A(0);
  const A d2 = cell.x0 && cell.y1 ? dots[2] : A(0), d3 = cell.x1 && cell.y1 ? dots[3] : A(0);
  const A gx = 1 - cell.fx, gy = 1 - cell.fy;
  const A by_weight = gy * (gx * d0 + cell.fx * d1) + cell.fy * (gx * d2 + cell.fx * d3);
  const A dx = attention * (gy * (d1 - d0) + cell.fy * (d3 - d2));
  const A dy = attention * (gx * (d2 - d0) + cell.fx * (d3 - d1));
  const A w = call.width[level], h = call.height[level];
  const bool anchored = call.anchors != nullptr;
  const int64_t at = (task.query * call.heads + task.head) * n + j;
  A* grad_points = static_cast<A*>(call.grad_points) + 2 * at;
  put(grad_points, anchored ? dx : dx * w, shared);
  put(grad_points + 1, anchored ? dy : dy * h, shared);
  put(static_cast<A*>(call.grad_weights) + at, anchored ? attention * by_weight : by_weight, shared);
  if (call.grad_anchors) {
    const int k = j % call.num_points % call.num_anchors;
    A* grad_anchor = static_cast<A*>(call.grad_anchors) + (task.row * call.num_anchors + k) * 2;
    atomicAdd(grad_anchor, dx * w);
    atomicAdd(grad_anchor + 1, dy * h);
  }
  return attention * by_weight;
}

template <class T, int VEC>
__global__ void __launch_bounds__(kMostThreads)
    backward_kernel(const __grid_constant__ CudaCall call, int lanes) {
  using A = typename Arithmetic<T>::type;
  extern __shared__ uint4 shared[];
  const int group = threadIdx.x / lanes, groups = blockDim.x / lanes;
  Plan<A>* plans = reinterpret_cast<Plan<A>*>(shared) + group * kChunk;
  A* dots = reinterpret_cast<A*>(reinterpret_cast<Plan<A>*>(shared) + groups * kChunk) + group * kChunk * 4;
  const Task task = find_task(call, lanes);
  const Reader<A> reader(call, task, lanes);
  const int n = call.num_levels * call.num_points;
  const int64_t step = static_cast<int64_t>(call.heads) * call.channels;
  const int64_t base = task.map * call.cells * step + task.head * call.channels;
  const T* map = static_cast<const T*>(call.value) + base;
  A* grad_map = static_cast<A*>(call.grad_value) + base;
  const T* grad_out = static_cast<const T*>(call.grad_out) + task.query * step + task.head * call.channels;
  A mean = 0;  // of the weights' gradients under the softmax, this lane's share
  for (int begin = 0; begin < n; begin += kChunk) {
    const int count = min(kChunk, n - begin);
    __syncwarp();
    for (int t = task.lane; t < count; t += lanes) {
      Cell<A> unused;
      plans[t] = reader.plan(begin + t, reader.attention(begin + t), unused);
      for (int k = 0; k < 4; k++) dots[4 * t + k] = 0;
    }
    __syncwarp();
    for (int first = 0; first < call.channels; first += lanes * VEC) {
      const int c = first + task.lane * VEC;
      const bool inside = c < call.channels;
      A grad[VEC] = {};
      if (inside && task.live) load_channels<VEC>(grad_out + c, grad);
      for (int t = 0; t < count; t++) {
        const Plan<A> plan = plans[t];
        A dot[4] = {};
        if (inside && plan.offset[0] >= 0) {
#pragma unroll
          for (int k = 0; k < 4; k++) {
            A corner[VEC], share[VEC];
            load_channels<VEC>(map + plan.offset[k] + c, corner);
#pragma unroll
            for (int i = 0; i < VEC; i++) {
              dot[k] += grad[i] * corner[i];
              share[i] = plan.weight[k] * grad[i];
            }
            if (task.live && plan.weight[k] != 0) add_channels<VEC>(grad_map + plan.offset[k] + c, share);
          }
        }
        sum_four(dot, task.lane, lanes);  // all lanes of the warp take part
        if (lanes >= 4) {
          if (task.lane < 4) dots[4 * t + task.lane] += dot[0];
        } else if (task.lane == 0) {
          for (int k = 0; k < 4; k++) dots[4 * t + k] += dot[k];
        }
      }
    }
    __syncwarp();
    for (int t = task.lane; t < count; t += lanes) {
      Cell<A> cell;
      const A attention = reader.attention(begin + t);
      reader.plan(begin + t, attention, cell);
      if (task.live) mean += finish_point(call, task, begin + t, attention, cell, dots + 4 * t);
    }
  }
  if (call.anchors == nullptr) return;  // the same for all threads
  mean = over_group(mean, lanes, Sum{});
  if (!task.live) return;
  // Each lane returns to the weights it wrote itself: the softmax takes a share of the mean from each.
  A* grad_weights = static_cast<A*>(call.grad_weights) + (task.query * call.heads + task.head) * n;
  for (int begin = 0; begin < n; begin += kChunk) {
    for (int t = begin + task.lane; t < min(begin + kChunk, n); t += lanes) {
      const A share = -reader.attention(t) * mean;
      if (call.pair_query) atomicAdd(grad_weights + t, share);
      else grad_weights[t] += share;
    }
  }
}

// ------------------------------------------------------------------------------------------------- launch

int power_of_two_at_least(int x) {
  int p = 1;
  while (p < x && p < 32) p *= 2;
  return p;
}

template <class T, int VEC>
cudaError_t launch(const CudaCall& call, bool backward, cudaStream_t stream) {
  using A = typename Arithmetic<T>::type;
  const int lanes = power_of_two_at_least((call.channels + VEC - 1) / VEC);
  const int threads = 32 * lanes < kMostThreads ? 32 * lanes : kMostThreads, groups = threads / lanes;
  const dim3 grid(static_cast<unsigned>((call.rows + groups - 1) / groups), call.heads);
  const size_t plans = sizeof(Plan<A>) * groups * kChunk, dots = 4 * sizeof(A) * groups * kChunk;
  if (backward) backward_kernel<T, VEC><<<grid, threads, plans + dots, stream>>>(call, lanes);
  else forward_kernel<T, VEC><<<grid, threads, plans, stream>>>(call, lanes);
  return cudaGetLastError();
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
cudaError_t launch(const CudaCall& call, bool backward, cudaStream_t stream) {
  constexpr int wide = 16 / sizeof(T);
  const bool whole = call.channels % wide == 0 && aligned(call.value) && aligned(call.out) &&
                     aligned(call.grad_out) && aligned(call.grad_value);
  return whole ? launch<T, wide>(call, backward, stream) : launch<T, 1>(call, backward, stream);
}

cudaError_t launch(const CudaCall& call, bool backward, cudaStream_t stream) {
  if (call.rows == 0) return cudaSuccess;
  switch (call.storage) {
    case Storage::float32:
      return launch<float>(call, backward, stream);
    case Storage::float64:
      return launch<double>(call, backward, stream);
    case Storage::bfloat16:
      return launch<__nv_bfloat16>(call, backward, stream);
    default:
      return launch<__half>(call, backward, stream);
  }
}

}  // namespace

cudaError_t launch_forward(const CudaCall& call, cudaStream_t stream) { return launch(call, false, stream); }
cudaError_t launch_backward(const CudaCall& call, cudaStream_t stream) { return launch(call, true, stream); }

}  // namespace focal
