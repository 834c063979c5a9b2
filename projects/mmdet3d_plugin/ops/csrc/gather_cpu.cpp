// CPU side of gathering weighted cells: checks, and the tasks handed to the kernels. A task owns rows, or
// channels of every cell, and adds up in the order of the pairs, so results are equal for any number of
// threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "gather_call.h"
#include "isa.h"
#include "pages.h"
#include "with_type.h"

namespace focal {
namespace {

using at::Tensor;
using at::TensorList;

template <class T>
const GatherKernels<T>& kernels() {
  return FOCAL_KERNELS(gather_kernels<T>);
}

void check_levels(TensorList levels, TensorList like) {
  TORCH_CHECK(!levels.empty() && levels.size() == like.size(),
              "needs at least one level, and as many of each");
  for (size_t l = 0; l < levels.size(); l++) {
    const Tensor& level = levels[l];
    TORCH_CHECK(level.dim() == 4 && level.sizes() == like[l].sizes(), "levels must be (N, C, h, w), got ",
                level.sizes());
    TORCH_CHECK(level.size(1) == levels[0].size(1), "levels differ in channels");
    TORCH_CHECK(level.scalar_type() == levels[0].scalar_type() &&
                    (level.scalar_type() == at::kFloat || level.scalar_type() == at::kDouble),
                "levels must all be float32 or all float64, got ", level.scalar_type());
    TORCH_CHECK(level.is_contiguous(at::MemoryFormat::ChannelsLast), "levels must be channels-last");
  }
}

void check_cells(TensorList levels, const Tensor& index, const Tensor& weight, const Tensor& begin) {
  const int64_t num_levels = levels.size();
  TORCH_CHECK(index.dim() == 3 && index.size(1) == num_levels && index.size(2) == kCorners &&
                  index.scalar_type() == at::kLong && index.is_contiguous(),
              "index must be (K, L, 4) int64, got ", index.sizes());
  TORCH_CHECK(weight.sizes() == index.sizes() && weight.scalar_type() == levels[0].scalar_type() &&
                  weight.is_contiguous(),
              "weight must be like index, in the dtype of the levels");
  TORCH_CHECK(begin.dim() == 1 && begin.size(0) > 0 && begin.scalar_type() == at::kLong &&
                  begin.is_contiguous(),
              "begin must be (R + 1,) int64");
  const int64_t *first = begin.const_data_ptr<int64_t>(), *cell = index.const_data_ptr<int64_t>();
  const int64_t rows = begin.size(0) - 1;
  TORCH_CHECK(first[0] == 0 && first[rows] == index.size(0), "begin must lead from 0 to K");
  for (int64_t row = 0; row < rows; row++) TORCH_CHECK(first[row] <= first[row + 1], "begin must not fall");
  for (int64_t at = 0; at < index.numel(); at++) {
    const Tensor& level = levels[at / kCorners % num_levels];
    TORCH_CHECK(cell[at] < level.size(0) * level.size(2) * level.size(3),
                "index names a cell beyond its level");
  }
}

template <class T>
struct Bound {
  GatherCall<T> call;
  std::vector<const T*> levels;

  Bound(TensorList maps, const Tensor& index, const Tensor& weight, const Tensor& begin) {
    for (const Tensor& level : maps) levels.push_back(level.const_data_ptr<T>());
    call = {levels.data(), static_cast<int64_t>(maps.size()), maps[0].size(1),
            begin.const_data_ptr<int64_t>(), index.const_data_ptr<int64_t>(), weight.const_data_ptr<T>()};
  }
};

Tensor gather(TensorList levels, const Tensor& index, const Tensor& weight, const Tensor& begin) {
  check_levels(levels, levels);
  check_cells(levels, index, weight, begin);
  const int64_t rows = begin.size(0) - 1;
  Tensor out = at::empty({rows, levels[0].size(1)}, levels[0].options());
  with_type(out, [&](auto zero) {
    using T = decltype(zero);
    const Bound<T> bound(levels, index, weight, begin);
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, rows, 1, [&](int64_t a, int64_t b) { kernels<T>().forward(bound.call, a, b, to); });
  });
  return out;
}

Tensor gather_backward(const Tensor& grad_, TensorList levels, const Tensor& index, const Tensor& weight,
                       const Tensor& begin, TensorList grad_levels) {
  check_levels(levels, levels);
  check_cells(levels, index, weight, begin);
  if (!grad_levels.empty()) check_levels(grad_levels, levels);
  const int64_t rows = begin.size(0) - 1, channels = levels[0].size(1);
  const Tensor grad = grad_.contiguous();
  TORCH_CHECK(grad.dim() == 2 && grad.size(0) == rows && grad.size(1) == channels &&
                  grad.scalar_type() == levels[0].scalar_type(),
              "grad must be (R, C) in the dtype of the levels, got ", grad.sizes());
  Tensor grad_weight = at::empty_like(weight);
  with_type(grad, [&](auto zero) {
    using T = decltype(zero);
    const Bound<T> bound(levels, index, weight, begin);
    const T* from = grad.const_data_ptr<T>();
    T* slope = grad_weight.mutable_data_ptr<T>();
    at::parallel_for(0, rows, 1,
                     [&](int64_t a, int64_t b) { kernels<T>().weights(bound.call, from, a, b, slope); });
    if (grad_levels.empty()) return;
    std::vector<T*> to;
    for (const Tensor& level : grad_levels) to.push_back(level.mutable_data_ptr<T>());
    // Whole vectors, so that a channel is added up by the same instructions wherever the cut lies.
    constexpr int64_t kSlice = 64;
    const int64_t slices = (channels + kSlice - 1) / kSlice;
    at::parallel_for(0, slices, 1, [&](int64_t a, int64_t b) {
      kernels<T>().cells(bound.call, from, rows, a * kSlice, std::min(b * kSlice, channels), to.data());
    });
  });
  return grad_weight;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def("gather_maps(Tensor[] levels, Tensor index, Tensor weight, Tensor begin) -> Tensor");
  m.def(
      "gather_maps_backward(Tensor grad, Tensor[] levels, Tensor index, Tensor weight, Tensor begin, "
      "Tensor(a!)[] grad_levels) -> Tensor");
}

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) {
  m.impl("gather_maps", focal::gather);
  m.impl("gather_maps_backward", focal::gather_backward);
}
