// What the CUDA kernels of lift-splat pooling are given. No torch headers: nvcc compiles this in seconds.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "lift_splat_call.h"

namespace focal {

struct SplatCall {
  SplatGeometry where;  // on the device
  int64_t pixels, views_per_sample, channels;
  bool wide;                    // float64, else float32; everything is contiguous
  const void *depth, *context;  // (views, bins, rows, columns) and (views, rows, columns, channels)
  void* grid;                   // forward: (samples, height, width, channels), zeroed
  const void* grad;             // backward: like grid
  void *grad_depth, *grad_context;
};

cudaError_t launch_splat(const SplatCall& call, cudaStream_t stream);
cudaError_t launch_splat_backward(const SplatCall& call, cudaStream_t stream);

}  // namespace focal
