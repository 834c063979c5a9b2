// What the CUDA kernels of deformable attention are given. No torch headers: nvcc compiles this in seconds.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace focal {

constexpr int kMostLevels = 16;

enum class Storage { float32, float64, bfloat16, float16 };

// Arithmetic type A: double for float64 storage, float for all others. Everything is contiguous.
struct CudaCall {
  Storage storage;      // of value, out and grad_out
  const void* value;    // (maps, cells, heads, channels)
  const void* points;   // (queries, heads, levels, points, 2) of A
  const void* weights;  // (queries, heads, levels * points) of A
  const void*
      anchors;  // (rows, num_anchors, 2) of A, or null: then points are locations and weights are weights
  const int64_t* pair_value;  // (rows,) map of a row; null: row / rows_per_map
  const int64_t* pair_query;  // (rows,) query of a row; null: the row itself
  int64_t rows, rows_per_map, maps, queries;
  int cells, heads, channels, num_levels, num_points, num_anchors;
  int height[kMostLevels], width[kMostLevels], start[kMostLevels];

  void* out;             // forward: (queries, heads, channels); storage, or zeroed A when rows are pairs
  const void* grad_out;  // backward: (queries, heads, channels)
  void* grad_value;      // (maps, cells, heads, channels) of A, zeroed
  void* grad_points;     // like points; zeroed when rows are pairs
  void* grad_weights;    // like weights; zeroed when rows are pairs
  void* grad_anchors;    // like anchors, zeroed, or null when not wanted
};

cudaError_t launch_forward(const CudaCall& call, cudaStream_t stream);
cudaError_t launch_backward(const CudaCall& call, cudaStream_t stream);

}  // namespace focal
