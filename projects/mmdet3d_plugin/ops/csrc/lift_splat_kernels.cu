// Lift-splat pooling for sm_80 and later.
//
// A warp owns a pixel and walks along its ray; neighbouring bins in one cell are merged. Going forward its
// lanes add channels to the grid (the order of these additions is the hardware's, so sums differ in their
// last bits); going back they read the grid's gradient, and no other warp writes what this one writes.
//
// Not run on a GPU yet, none was at hand: the tests compile it for sm_80 and sm_90 and run its arithmetic in
// an emulator of warps (tests/ops/cuda_emulator.h).
#include "lift_splat_cuda.h"

namespace focal {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;  // of a block
constexpr int kHeld = 4;   // channels that a lane holds at once
constexpr unsigned kLanes = 0xffffffffu;

// A pixel's ray.
struct Ray {
  double origin[3], step[3];

  __device__ Ray(const SplatGeometry& g, int64_t view, int64_t pixel) {
    for (int axis = 0; axis < 3; axis++) {
      origin[axis] = g.origin[3 * view + axis];
      step[axis] = g.ray[3 * pixel + axis];
    }
  }

  // Cell at a depth, -1 outside.
  __device__ int64_t cell(const SplatGeometry& g, double depth) const {
    const double end[3] = {static_cast<double>(g.width), static_cast<double>(g.height), 1.0};
    double at[3];
    for (int axis = 0; axis < 3; axis++) {
      at[axis] = origin[axis] + depth * step[axis];
      const bool in = g.truncate ? at[axis] > -1.0 : at[axis] >= 0.0;
      if (!in || !(at[axis] < end[axis])) return -1;
    }
    return static_cast<int64_t>(at[1]) * g.width + static_cast<int64_t>(at[0]);
  }
};

// Calls body(cell, first bin, last bin + 1) for every run of bins in one cell.
template <class Body>
__device__ void over_runs(const SplatGeometry& g, const Ray& ray, Body body) {
  int64_t first = 0, now = g.num_bins > 0 ? ray.cell(g, g.bins[0]) : -1;
  for (int64_t k = 1; k <= g.num_bins; k++) {
    const int64_t next = k < g.num_bins ? ray.cell(g, g.bins[k]) : -2;
    if (next == now) continue;
    if (now >= 0) body(now, first, k);
    first = k;
    now = next;
  }
}

template <class T>
__global__ void splat(SplatCall call) {
  const SplatGeometry& g = call.where;
  const int lane = threadIdx.x % kWarp;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (pixel >= call.pixels) return;
  const int64_t plane = g.rows * g.columns, view = pixel / plane;
  const T* depth = static_cast<const T*>(call.depth) + view * g.num_bins * plane + pixel % plane;
  const T* context = static_cast<const T*>(call.context) + pixel * call.channels;
  T* grid = static_cast<T*>(call.grid) + view / call.views_per_sample * g.height * g.width * call.channels;
  over_runs(g, Ray(g, view, pixel), [&](int64_t cell, int64_t first, int64_t last) {
    T weight = 0;
    for (int64_t k = first; k < last; k++) weight += depth[k * plane];
    for (int64_t c = lane; c < call.channels; c += kWarp)
      atomicAdd(grid + cell * call.channels + c, weight * context[c]);
  });
}

template <class T>
__device__ T sum_of_warp(T x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kLanes, x, step);
  return x;
}

template <class T>
__global__ void splat_back(SplatCall call) {
  const SplatGeometry& g = call.where;
  const int lane = threadIdx.x % kWarp;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (pixel >= call.pixels) return;
  const int64_t plane = g.rows * g.columns, view = pixel / plane;
  const int64_t place = view * g.num_bins * plane + pixel % plane;
  const T* depth = static_cast<const T*>(call.depth) + place;
  T* grad_depth = static_cast<T*>(call.grad_depth) + place;
  const T* context = static_cast<const T*>(call.context) + pixel * call.channels;
  T* grad_context = static_cast<T*>(call.grad_context) + pixel * call.channels;
  const T* grad =
      static_cast<const T*>(call.grad) + view / call.views_per_sample * g.height * g.width * call.channels;
  const Ray ray(g, view, pixel);
  for (int64_t k = lane; k < g.num_bins; k += kWarp) grad_depth[k * plane] = 0;
  __syncwarp();
  for (int64_t from = 0; from < call.channels; from += kWarp * kHeld) {
    T feature[kHeld], sum[kHeld];
    for (int j = 0; j < kHeld; j++) {
      const int64_t c = from + lane + j * kWarp;
      feature[j] = c < call.channels ? context[c] : T(0);
      sum[j] = 0;
    }
    over_runs(g, ray, [&](int64_t cell, int64_t first, int64_t last) {
      T weight = 0, dot = 0;
      for (int64_t k = first; k < last; k++) weight += depth[k * plane];
      for (int j = 0; j < kHeld; j++) {
        const int64_t c = from + lane + j * kWarp;
        const T slope = c < call.channels ? grad[cell * call.channels + c] : T(0);
        dot += slope * feature[j];
        sum[j] += weight * slope;
      }
      dot = sum_of_warp(dot);
      for (int64_t k = first + lane; k < last; k += kWarp) grad_depth[k * plane] += dot;
      __syncwarp();
    });
    for (int j = 0; j < kHeld; j++) {
      const int64_t c = from + lane + j * kWarp;
      if (c < call.channels) grad_context[c] = sum[j];
    }
  }
}

}  // namespace

cudaError_t launch_splat(const SplatCall& call, cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>((call.pixels + kWarps - 1) / kWarps);
  const int block = kWarps * kWarp;
  if (call.wide) splat<double><<<grid, block, 0, stream>>>(call);
  else splat<float><<<grid, block, 0, stream>>>(call);
  return cudaGetLastError();
}

cudaError_t launch_splat_backward(const SplatCall& call, cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>((call.pixels + kWarps - 1) / kWarps);
  const int block = kWarps * kWarp;
  if (call.wide) splat_back<double><<<grid, block, 0, stream>>>(call);
  else splat_back<float><<<grid, block, 0, stream>>>(call);
  return cudaGetLastError();
}

}  // namespace focal
