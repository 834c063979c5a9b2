// Weighted squared distance of one row and its gradient. Included by losses_kernels.h.

template <class T>
static double square_row(const T* student, const T* teacher, const T* weight, int64_t count) {
  using S = Simd<T>;
  double total = 0;
  for (int64_t from = 0; from < count; from += kSpan) {
    const int64_t to = from + kSpan < count ? from + kSpan : count;
    typename S::Vec sum = {};
    for (int64_t k = from; k < to; k += S::width) {
      const typename S::Vec d = load_up_to(student + k, to - k, T(0)) - load_up_to(teacher + k, to - k, T(0));
      sum += load_up_to(weight + k, to - k, T(0)) * d * d;
    }
    total += sum_of<T>(sum);
  }
  return total;
}

template <class T>
static void square_slope(const T* student, const T* teacher, const T* weight, int64_t count, T scale,
                         T* grad) {
  using S = Simd<T>;
  for (int64_t k = 0; k < count; k += S::width) {
    const typename S::Vec d =
        load_up_to(student + k, count - k, T(0)) - load_up_to(teacher + k, count - k, T(0));
    store_up_to(grad + k, load_up_to(weight + k, count - k, T(0)) * d * (2 * scale), count - k);
  }
}
