// What both sides of lift-splat pooling ask of their inputs.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace focal {

inline void check_splat(const at::Tensor& depth, const at::Tensor& context, const at::Tensor& origin,
                        const at::Tensor& ray, const at::Tensor& bins, int64_t height, int64_t width) {
  TORCH_CHECK(depth.dim() == 4 && context.dim() == 4 && depth.size(0) == context.size(0) &&
                  depth.size(2) == context.size(2) && depth.size(3) == context.size(3),
              "depth must be (B * N, D, h, w) and context (B * N, C, h, w), got ", depth.sizes(), " and ",
              context.sizes());
  TORCH_CHECK(depth.scalar_type() == context.scalar_type() &&
                  (depth.scalar_type() == at::kFloat || depth.scalar_type() == at::kDouble),
              "depth and context must both be float32 or float64, got ", depth.scalar_type(), " and ",
              context.scalar_type());
  TORCH_CHECK(origin.dim() == 3 && origin.size(2) == 3 && origin.size(0) * origin.size(1) == depth.size(0),
              "origin must be (B, N, 3) for ", depth.size(0), " views, got ", origin.sizes());
  TORCH_CHECK(ray.dim() == 5 && ray.size(0) == origin.size(0) && ray.size(1) == origin.size(1) &&
                  ray.size(2) == depth.size(2) && ray.size(3) == depth.size(3) && ray.size(4) == 3,
              "ray must be (B, N, h, w, 3), got ", ray.sizes());
  TORCH_CHECK(bins.dim() == 1 && bins.size(0) == depth.size(1), "bins must be (", depth.size(1), "), got ",
              bins.sizes());
  for (const at::Tensor* t : {&origin, &ray, &bins})
    TORCH_CHECK(t->scalar_type() == at::kDouble, "geometry must be float64, got ", t->scalar_type());
  TORCH_CHECK(height >= 0 && width >= 0 && height * width < (int64_t{1} << 31), "the grid cannot be ", height,
              " x ", width);
}

}  // namespace focal
