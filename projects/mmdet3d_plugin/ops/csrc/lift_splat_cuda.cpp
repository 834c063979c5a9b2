// CUDA side of lift-splat pooling: checks, allocation, launch. Compiled where nvcc is.
// Not run on a GPU yet, none was at hand; see lift_splat_kernels.cu.
#include "lift_splat_cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <tuple>

#include "lift_splat_checks.h"

namespace focal {
namespace {

using at::Tensor;

// Inputs in the form of the kernels, kept alive beside the call that points at them.
struct SplatInputs {
  Tensor depth, context, origin, ray, bins;
  SplatCall call{};

  SplatInputs(const Tensor& d, const Tensor& c, const Tensor& o, const Tensor& r, const Tensor& b,
              int64_t height, int64_t width, bool truncate)
      : depth(d.contiguous()),
        context(c.permute({0, 2, 3, 1}).contiguous()),
        origin(o.contiguous()),
        ray(r.contiguous()),
        bins(b.contiguous()) {
    check_splat(d, c, o, r, b, height, width);
    TORCH_CHECK(c.is_cuda() && o.is_cuda() && r.is_cuda() && b.is_cuda(),
                "context and geometry must be on the device of depth");
    call.where = {origin.const_data_ptr<double>(),
                  ray.const_data_ptr<double>(),
                  bins.const_data_ptr<double>(),
                  bins.size(0),
                  ray.size(2),
                  ray.size(3),
                  height,
                  width,
                  truncate};
    call.pixels = depth.size(0) * ray.size(2) * ray.size(3);
    call.views_per_sample = origin.size(1);
    call.channels = context.size(3);
    call.wide = depth.scalar_type() == at::kDouble;
    call.depth = depth.const_data_ptr();
    call.context = context.const_data_ptr();
  }
};

void check_launch(cudaError_t error) {
  TORCH_CHECK(error == cudaSuccess, "lift-splat pooling: ", cudaGetErrorString(error));
}

Tensor splat_forward(const Tensor& depth, const Tensor& context, const Tensor& origin, const Tensor& ray,
                     const Tensor& bins, int64_t height, int64_t width, bool truncate) {
  const c10::cuda::CUDAGuard guard(depth.device());
  SplatInputs in(depth, context, origin, ray, bins, height, width, truncate);
  Tensor grid = at::zeros({origin.size(0), height, width, context.size(1)}, context.options());
  if (depth.numel() > 0 && grid.numel() > 0) {
    in.call.grid = grid.data_ptr();
    check_launch(launch_splat(in.call, c10::cuda::getCurrentCUDAStream()));
  }
  return grid.permute({0, 3, 1, 2});
}

std::tuple<Tensor, Tensor> splat_backward(const Tensor& grad, const Tensor& depth, const Tensor& context,
                                          const Tensor& origin, const Tensor& ray, const Tensor& bins,
                                          bool truncate) {
  const c10::cuda::CUDAGuard guard(depth.device());
  SplatInputs in(depth, context, origin, ray, bins, grad.size(2), grad.size(3), truncate);
  Tensor grad_depth = at::empty_like(in.depth), grad_context = at::empty_like(in.context);
  if (depth.numel() == 0 || grad.numel() == 0) {
    return {grad_depth.zero_(), grad_context.zero_().permute({0, 3, 1, 2})};
  }
  const Tensor slope = grad.permute({0, 2, 3, 1}).contiguous();
  in.call.grad = slope.const_data_ptr();
  in.call.grad_depth = grad_depth.data_ptr();
  in.call.grad_context = grad_context.data_ptr();
  check_launch(launch_splat_backward(in.call, c10::cuda::getCurrentCUDAStream()));
  return {grad_depth, grad_context.permute({0, 3, 1, 2})};
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_IMPL(focaldistiller, CUDA, m) {
  m.impl("lift_splat", focal::splat_forward);
  m.impl("lift_splat_backward", focal::splat_backward);
}
