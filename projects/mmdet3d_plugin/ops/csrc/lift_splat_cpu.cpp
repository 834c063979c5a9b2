// CPU side of lift-splat pooling. Threads share out the channels of a sample going forward, and the pixels
// going backward: every number is summed up by one thread in one order, so results are equal for any number
// of threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "isa.h"
#include "lift_splat_call.h"
#include "lift_splat_checks.h"
#include "pages.h"
#include "with_type.h"

namespace focal {
namespace {

using at::Tensor;

template <class T>
const SplatKernels<T>& kernels() {
  return FOCAL_KERNELS(splat_kernels<T>);
}

// (views, K, rows, columns) -> its address and strides.
template <class T>
Map<const T> map_of(const Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

template <class T>
Map<T> writable(Tensor& t) {
  return {t.mutable_data_ptr<T>(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

struct Geometry {
  Tensor origin, ray, bins;
  SplatGeometry g;

  Geometry(const Tensor& o, const Tensor& r, const Tensor& b, int64_t height, int64_t width, bool truncate)
      : origin(o.contiguous()), ray(r.contiguous()), bins(b.contiguous()) {
    g = {origin.const_data_ptr<double>(),
         ray.const_data_ptr<double>(),
         bins.const_data_ptr<double>(),
         bins.size(0),
         ray.size(2),
         ray.size(3),
         height,
         width,
         truncate};
  }
};

constexpr int64_t kLeastChannels =
    16;  // a whole number of vectors, so that the slices of threads never matter

Tensor forward(const Tensor& depth, const Tensor& context, const Tensor& origin, const Tensor& ray,
               const Tensor& bins, int64_t height, int64_t width, bool truncate) {
  check_splat(depth, context, origin, ray, bins, height, width);
  const int64_t samples = origin.size(0), views = origin.size(1), channels = context.size(1);
  Tensor grid = fresh_zeros({samples, height, width, channels}, context.options());
  if (depth.numel() == 0 || grid.numel() == 0) return grid.permute({0, 3, 1, 2});
  const Geometry where(origin, ray, bins, height, width, truncate);
  const int64_t wanted = std::max<int64_t>(1, (at::get_num_threads() + samples - 1) / samples);
  const int64_t width_of_slice =
      std::max((channels / wanted + kLeastChannels - 1) / kLeastChannels, int64_t{1}) * kLeastChannels;
  const int64_t slices = (channels + width_of_slice - 1) / width_of_slice;
  with_type(depth, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    T* out = grid.mutable_data_ptr<T>();
    at::parallel_for(0, samples * slices, 1, [&](int64_t a, int64_t b) {
      const c10::DataPtr scratch =
          fresh_bytes(kernel.scratch(where.g, std::min(width_of_slice, channels), false));
      for (int64_t task = a; task < b; task++) {
        const int64_t sample = task / slices, from = task % slices * width_of_slice;
        kernel.forward(where.g, map_of<T>(depth), map_of<T>(context), sample * views, (sample + 1) * views,
                       from, std::min(from + width_of_slice, channels), channels,
                       out + sample * height * width * channels, scratch.get());
      }
    });
  });
  return grid.permute({0, 3, 1, 2});
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& depth, const Tensor& context,
                                    const Tensor& origin, const Tensor& ray, const Tensor& bins,
                                    bool truncate) {
  const int64_t height = grad.size(2), width = grad.size(3), channels = context.size(1);
  check_splat(depth, context, origin, ray, bins, height, width);
  Tensor grad_depth = at::empty_like(depth), grad_context = at::empty_like(context);
  if (depth.numel() == 0 || grad.numel() == 0) return {grad_depth.zero_(), grad_context.zero_()};
  const Tensor slope = grad.permute({0, 2, 3, 1}).contiguous();
  const Geometry where(origin, ray, bins, height, width, truncate);
  const int64_t views = origin.size(1), columns = ray.size(3), blocks = (columns + kTile - 1) / kTile;
  with_type(depth, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const T* g = slope.const_data_ptr<T>();
    const auto to_depth = writable<T>(grad_depth), to_context = writable<T>(grad_context);
    at::parallel_for(0, depth.size(0) * blocks, 1, [&](int64_t a, int64_t b) {
      const c10::DataPtr scratch = fresh_bytes(kernel.scratch(where.g, channels, true));
      for (int64_t task = a; task < b; task++) {
        const int64_t view = task / blocks, from = task % blocks * kTile;
        kernel.backward(where.g, map_of<T>(depth), map_of<T>(context), view, from,
                        std::min(from + kTile, columns), channels,
                        g + view / views * height * width * channels, to_depth, to_context, scratch.get());
      }
    });
  });
  return {grad_depth, grad_context};
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) {
  m.impl("lift_splat", focal::forward);
  m.impl("lift_splat_backward", focal::backward);
}
