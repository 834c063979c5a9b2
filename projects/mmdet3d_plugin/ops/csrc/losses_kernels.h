// Distillation losses on one row of one core. Compiled once per instruction set inside namespace
// focal::FOCAL_ISA.

constexpr int64_t kSpan = 1024;  // positions summed in T before the sum moves on in double

// The part of a row that is not a whole vector, as a vector: `fill` where there is nothing.
template <class T>
FOCAL_INLINE typename Simd<T>::Vec load_part(const T* p, int64_t count, T fill) {
  T part[Simd<T>::width];
  for (int k = 0; k < Simd<T>::width; k++) part[k] = k < count ? p[k] : fill;
  return load(part);
}

template <class T>
FOCAL_INLINE typename Simd<T>::Vec load_up_to(const T* p, int64_t count, T fill) {
  return count >= Simd<T>::width ? load(p) : load_part(p, count, fill);
}

template <class T>
FOCAL_INLINE void store_up_to(T* p, typename Simd<T>::Vec v, int64_t count) {
  if (count >= Simd<T>::width) return store(p, v);
  for (int64_t k = 0; k < count; k++) p[k] = v[k];
}

template <class T>
FOCAL_INLINE double sum_of(typename Simd<T>::Vec v) {
  double sum = 0;
  for (int k = 0; k < Simd<T>::width; k++) sum += v[k];
  return sum;
}

// clang-format off
#include "channel_wise_kl.h"
#include "masked_l2.h"
// clang-format on

template <class T>
static const LossKernels<T>* loss_table() {
  static const LossKernels<T> kernels{divergence_row<T>, divergence_slope<T>, square_row<T>, square_slope<T>};
  return &kernels;
}
