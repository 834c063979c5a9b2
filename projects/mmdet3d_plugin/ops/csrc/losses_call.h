// What the distillation losses ask of a CPU kernel. Plain data only, as in msda_call.h.
#pragma once
#include <cstdint>

namespace focal {

template <class T>
struct LossKernels {
  // One channel's map, `count` positions: log of the sum of exp(student / tau), the same of the teacher, and
  // the sum of p * (teacher - student) / tau, or of -p * student / tau as cross-entropy; p = softmax(teacher
  // / tau).
  void (*divergence_row)(const T* student, const T* teacher, int64_t count, double tau, bool cross_entropy,
                         double* log_student, double* log_teacher, double* mean);
  // grad[k] = scale * (softmax(student / tau) - softmax(teacher / tau)).
  void (*divergence_slope)(const T* student, const T* teacher, int64_t count, double tau, double log_student,
                           double log_teacher, T scale, T* grad);
  // Sum of weight * (student - teacher)^2.
  double (*square_row)(const T* student, const T* teacher, const T* weight, int64_t count);
  // grad[k] = 2 * scale * weight * (student - teacher).
  void (*square_slope)(const T* student, const T* teacher, const T* weight, int64_t count, T scale, T* grad);
};

template <class T>
const LossKernels<T>* baseline_loss_kernels();
template <class T>
const LossKernels<T>* avx2_loss_kernels();
template <class T>
const LossKernels<T>* avx512_loss_kernels();

}  // namespace focal
