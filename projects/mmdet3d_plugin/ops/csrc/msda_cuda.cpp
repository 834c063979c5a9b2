// CUDA side of the attention operators: checks, allocation, launch. Compiled where nvcc is.
// Not run on a GPU yet, none was at hand; see msda_kernels.cu.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <vector>

#include "msda_cuda.h"
#include "msda_doors.h"

namespace focal {
namespace {

using at::Tensor;

Storage storage_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return Storage::float32;
    case at::kDouble:
      return Storage::float64;
    case at::kBFloat16:
      return Storage::bfloat16;
    case at::kHalf:
      return Storage::float16;
    default:
      TORCH_CHECK(false, "value must be float16, bfloat16, float32 or float64, got ", t.scalar_type());
  }
}

void describe_levels(CudaCall& call, at::IntArrayRef shapes, int64_t cells) {
  TORCH_CHECK(!shapes.empty() && shapes.size() % 2 == 0, "spatial_shapes must hold h and w of every level");
  TORCH_CHECK(shapes.size() / 2 <= kMostLevels, "at most ", kMostLevels, " levels, got ", shapes.size() / 2);
  int64_t start = 0;
  call.num_levels = static_cast<int>(shapes.size() / 2);
  for (int l = 0; l < call.num_levels; l++) {
    call.height[l] = static_cast<int>(shapes[2 * l]);
    call.width[l] = static_cast<int>(shapes[2 * l + 1]);
    call.start[l] = static_cast<int>(start);
    TORCH_CHECK(call.height[l] > 0 && call.width[l] > 0, "spatial_shapes: level ", l, " is empty");
    start += shapes[2 * l] * shapes[2 * l + 1];
  }
  TORCH_CHECK(start == cells, "value has ", cells, " cells but spatial_shapes describe ", start);
}

// Inputs in the form of the kernels, kept alive beside the call that points at them.
struct Inputs {
  Tensor value, points, weights, anchors, pair_value, pair_query;
  at::ScalarType compute;
  bool paired = false;
  CudaCall call{};
};

void check_shapes(const Tensor& value, const Tensor& points, const Tensor& weights, int64_t levels) {
  TORCH_CHECK(value.dim() == 4, "value must be (B, S, M, D), got ", value.sizes());
  TORCH_CHECK(
      points.dim() == 6 && points.size(5) == 2 && points.size(2) == value.size(2) && points.size(3) == levels,
      "sampling points must be (B, Q, M, L, P, 2) with M and L of value and spatial_shapes, got ",
      points.sizes());
  TORCH_CHECK(weights.dim() >= 4 && weights.sizes().slice(0, 3) == points.sizes().slice(0, 3) &&
                  weights.numel() * 2 == points.numel(),
              "weights ", weights.sizes(), " do not match the points ", points.sizes());
  TORCH_CHECK(value.size(1) * value.size(2) * value.size(3) < (int64_t{1} << 31),
              "a map of value is too large: ", value.sizes());
  TORCH_CHECK(points.is_cuda() && weights.is_cuda(),
              "sampling points and weights must be on the device of value");
}

Inputs read_inputs(const Tensor& value, const Sampling& s, int64_t levels) {
  check_shapes(value, s.points, s.weights, levels);
  Inputs in;
  in.compute = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  in.paired = s.pair_value.defined();
  in.value = value.contiguous();
  in.points = s.points.to(in.compute).contiguous();
  in.weights = s.weights.to(in.compute).contiguous();
  if (s.anchors.defined()) in.anchors = s.anchors.to(in.compute).contiguous();
  if (in.paired) {
    TORCH_CHECK(s.pair_value.scalar_type() == at::kLong && s.pair_query.scalar_type() == at::kLong &&
                    s.pair_value.is_cuda() && s.pair_query.is_cuda() &&
                    s.pair_value.sizes() == s.pair_query.sizes(),
                "pair_value and pair_query must be (K,) int64 on the device of value");
    in.pair_value = s.pair_value.contiguous();
    in.pair_query = s.pair_query.contiguous();
  }
  return in;
}

void fill_call(Inputs& in, at::IntArrayRef shapes) {
  CudaCall& call = in.call;
  describe_levels(call, shapes, in.value.size(1));
  call.storage = storage_of(in.value);
  call.value = in.value.const_data_ptr();
  call.points = in.points.const_data_ptr();
  call.weights = in.weights.const_data_ptr();
  call.queries = in.points.size(0) * in.points.size(1);
  call.maps = in.value.size(0);
  call.rows = in.paired ? in.pair_value.numel() : call.queries;
  call.rows_per_map = in.points.size(1);
  call.cells = static_cast<int>(in.value.size(1));
  call.heads = static_cast<int>(in.value.size(2));
  call.channels = static_cast<int>(in.value.size(3));
  call.num_points = static_cast<int>(in.points.size(4));
  if (in.paired) {
    call.pair_value = in.pair_value.const_data_ptr<int64_t>();
    call.pair_query = in.pair_query.const_data_ptr<int64_t>();
  } else {
    TORCH_CHECK(in.points.size(0) == call.maps, "value has batch ", call.maps, " but the sampling points ",
                in.points.size(0));
  }
  if (!in.anchors.defined()) return;
  TORCH_CHECK(in.anchors.size(-1) == 2 && in.anchors.size(-2) > 0 &&
                  in.anchors.numel() == call.rows * in.anchors.size(-2) * 2,
              "reference_points must hold R pairs for each of ", call.rows, " rows, got ",
              in.anchors.sizes());
  call.anchors = in.anchors.const_data_ptr();
  call.num_anchors = static_cast<int>(in.anchors.size(-2));
}

void check(cudaError_t error) {
  TORCH_CHECK(error == cudaSuccess, "deformable attention: ", cudaGetErrorString(error));
}

Tensor forward(const Tensor& value, at::IntArrayRef shapes, const Sampling& sampling) {
  Inputs in = read_inputs(value, sampling, static_cast<int64_t>(shapes.size()) / 2);
  const c10::cuda::CUDAGuard guard(in.value.device());
  fill_call(in, shapes);
  const std::vector<int64_t> sizes = {in.points.size(0), in.points.size(1),
                                      in.value.size(2) * in.value.size(3)};
  Tensor out = in.paired ? at::zeros(sizes, in.value.options().dtype(in.compute))
                         : at::empty(sizes, in.value.options());
  if (out.numel() == 0) return out.to(in.value.scalar_type());
  in.call.out = out.data_ptr();
  check(launch_forward(in.call, c10::cuda::getCurrentCUDAStream()));
  return out.to(in.value.scalar_type());
}

Gradients backward(const Tensor& grad_out, const Tensor& value, at::IntArrayRef shapes,
                   const Sampling& sampling, bool with_anchors) {
  Inputs in = read_inputs(value, sampling, static_cast<int64_t>(shapes.size()) / 2);
  const c10::cuda::CUDAGuard guard(in.value.device());
  fill_call(in, shapes);
  Gradients g;
  g.value = at::zeros(in.value.sizes(), in.value.options().dtype(in.compute));
  g.points = in.paired ? at::zeros(in.points.sizes(), in.points.options())
                       : at::empty(in.points.sizes(), in.points.options());
  g.weights = in.paired ? at::zeros(in.weights.sizes(), in.weights.options())
                        : at::empty(in.weights.sizes(), in.weights.options());
  if (with_anchors) g.anchors = at::zeros(in.anchors.sizes(), in.anchors.options());
  if (g.value.numel() == 0) return g;
  TORCH_CHECK(grad_out.numel() == in.points.size(0) * in.points.size(1) * in.value.size(2) * in.value.size(3),
              "grad_out does not match the output, got ", grad_out.sizes());
  const Tensor grad = grad_out.to(in.value.scalar_type()).contiguous();
  in.call.grad_out = grad.const_data_ptr();
  in.call.grad_value = g.value.data_ptr();
  in.call.grad_points = g.points.data_ptr();
  in.call.grad_weights = g.weights.data_ptr();
  in.call.grad_anchors = with_anchors ? g.anchors.data_ptr() : nullptr;
  check(launch_backward(in.call, c10::cuda::getCurrentCUDAStream()));
  return g;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_IMPL(focaldistiller, CUDA, m) { focal::Doors<focal::forward, focal::backward>::register_in(m); }
