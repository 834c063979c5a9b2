// CPU side of the distillation losses. Rows are added up in a fixed order, so results are equal for any
// number of threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <numeric>
#include <tuple>
#include <vector>

#include "isa.h"
#include "losses_call.h"
#include "pages.h"
#include "with_type.h"

namespace focal {
namespace {

using at::Tensor;

template <class T>
const LossKernels<T>& kernels() {
  return FOCAL_KERNELS(loss_kernels<T>);
}

void check_pair(const Tensor& student, const Tensor& teacher) {
  TORCH_CHECK(student.dim() == 4, "student must be (N, C, H, W), got ", student.sizes());
  TORCH_CHECK(student.scalar_type() == at::kFloat || student.scalar_type() == at::kDouble,
              "student must be float32 or float64, got ", student.scalar_type());
  TORCH_CHECK(teacher.sizes() == student.sizes(), "teacher is ", teacher.sizes(), " but student is ",
              student.sizes());
  TORCH_CHECK(teacher.scalar_type() == student.scalar_type(), "teacher is ", teacher.scalar_type(),
              " but student is ", student.scalar_type());
}

void check_weight(const Tensor& student, const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) == student.size(0) && weight.size(1) == 1 &&
                  weight.size(2) == student.size(2) && weight.size(3) == student.size(3),
              "weight must be (N, 1, H, W) for student ", student.sizes(), ", got ", weight.sizes());
  TORCH_CHECK(weight.scalar_type() == student.scalar_type(), "weight is ", weight.scalar_type(),
              " but student is ", student.scalar_type());
}

double total_of(const std::vector<double>& rows) { return std::accumulate(rows.begin(), rows.end(), 0.0); }

// Loss, and the (N * C,) float64 logarithms of the softmaxes' denominators.
std::tuple<Tensor, Tensor, Tensor> divergence(const Tensor& student_, const Tensor& teacher_, double tau,
                                              bool cross_entropy) {
  check_pair(student_, teacher_);
  TORCH_CHECK(tau > 0, "tau must be positive, got ", tau);
  const Tensor student = student_.contiguous(), teacher = teacher_.contiguous();
  const int64_t rows = student.size(0) * student.size(1), count = student.size(2) * student.size(3);
  Tensor log_s = at::empty({rows}, student.options().dtype(at::kDouble)), log_t = at::empty_like(log_s);
  std::vector<double> parts(rows, 0.0);
  double *ls = log_s.mutable_data_ptr<double>(), *lt = log_t.mutable_data_ptr<double>();
  with_type(student, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const T *s = student.const_data_ptr<T>(), *t = teacher.const_data_ptr<T>();
    if (count > 0)
      at::parallel_for(0, rows, 1, [&](int64_t a, int64_t b) {
        for (int64_t r = a; r < b; r++) {
          kernel.divergence_row(s + r * count, t + r * count, count, tau, cross_entropy, ls + r, lt + r,
                                &parts[r]);
          parts[r] += ls[r] - (cross_entropy ? 0.0 : lt[r]);
        }
      });
  });
  const double scale = rows ? tau * tau / rows : 0.0;
  return {at::empty({}, student.options()).fill_(total_of(parts) * scale), log_s, log_t};
}

Tensor divergence_backward(const Tensor& grad, const Tensor& student_, const Tensor& teacher_,
                           const Tensor& log_s, const Tensor& log_t, double tau) {
  check_pair(student_, teacher_);
  const Tensor student = student_.contiguous(), teacher = teacher_.contiguous();
  const int64_t rows = student.size(0) * student.size(1), count = student.size(2) * student.size(3);
  Tensor slope = fresh(student.sizes(), student.options());
  const double scale = rows ? grad.item<double>() * tau / rows : 0.0;
  with_type(student, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const T *s = student.const_data_ptr<T>(), *t = teacher.const_data_ptr<T>();
    const double *ls = log_s.const_data_ptr<double>(), *lt = log_t.const_data_ptr<double>();
    T* out = slope.mutable_data_ptr<T>();
    at::parallel_for(0, rows, 1, [&](int64_t a, int64_t b) {
      for (int64_t r = a; r < b; r++) {
        kernel.divergence_slope(s + r * count, t + r * count, count, tau, ls[r], lt[r], static_cast<T>(scale),
                                out + r * count);
      }
    });
  });
  return slope;
}

Tensor square(const Tensor& student_, const Tensor& teacher_, const Tensor& weight_) {
  check_pair(student_, teacher_);
  check_weight(student_, weight_);
  const Tensor student = student_.contiguous(), teacher = teacher_.contiguous(),
               weight = weight_.contiguous();
  const int64_t channels = student.size(1), rows = student.size(0) * channels,
                count = student.size(2) * student.size(3);
  std::vector<double> parts(rows, 0.0);
  with_type(student, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const T *s = student.const_data_ptr<T>(), *t = teacher.const_data_ptr<T>(),
            *w = weight.const_data_ptr<T>();
    at::parallel_for(0, rows, 1, [&](int64_t a, int64_t b) {
      for (int64_t r = a; r < b; r++)
        parts[r] = kernel.square_row(s + r * count, t + r * count, w + r / channels * count, count);
    });
  });
  return at::empty({}, student.options()).fill_(total_of(parts));
}

Tensor square_backward(const Tensor& grad, const Tensor& student_, const Tensor& teacher_,
                       const Tensor& weight_) {
  check_pair(student_, teacher_);
  check_weight(student_, weight_);
  const Tensor student = student_.contiguous(), teacher = teacher_.contiguous(),
               weight = weight_.contiguous();
  const int64_t channels = student.size(1), rows = student.size(0) * channels,
                count = student.size(2) * student.size(3);
  Tensor slope = fresh(student.sizes(), student.options());
  const double scale = grad.item<double>();
  with_type(student, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const T *s = student.const_data_ptr<T>(), *t = teacher.const_data_ptr<T>(),
            *w = weight.const_data_ptr<T>();
    T* out = slope.mutable_data_ptr<T>();
    at::parallel_for(0, rows, 1, [&](int64_t a, int64_t b) {
      for (int64_t r = a; r < b; r++) {
        kernel.square_slope(s + r * count, t + r * count, w + r / channels * count, count,
                            static_cast<T>(scale), out + r * count);
      }
    });
  });
  return slope;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def(
      "channel_wise_kl(Tensor student, Tensor teacher, float tau, bool cross_entropy) -> (Tensor, Tensor, "
      "Tensor)");
  m.def(
      "channel_wise_kl_backward(Tensor grad, Tensor student, Tensor teacher, Tensor log_student, Tensor "
      "log_teacher, float tau) -> Tensor");
  m.def("masked_l2(Tensor student, Tensor teacher, Tensor weight) -> Tensor");
  m.def("masked_l2_backward(Tensor grad, Tensor student, Tensor teacher, Tensor weight) -> Tensor");
}

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) {
  m.impl("channel_wise_kl", focal::divergence);
  m.impl("channel_wise_kl_backward", focal::divergence_backward);
  m.impl("masked_l2", focal::square);
  m.impl("masked_l2_backward", focal::square_backward);
}
