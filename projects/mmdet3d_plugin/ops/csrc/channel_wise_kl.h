// Channel-wise KL divergence of one row and its gradient. Included by losses_kernels.h.

template <class T>
static T largest(const T* x, int64_t count) {
  using S = Simd<T>;
  typename S::Vec most[4];
  for (auto& m : most) m = load_up_to(x, count, x[0]);
  int64_t k = 0;
  for (; k + 4 * S::width <= count; k += 4 * S::width) {
    for (int u = 0; u < 4; u++) {
      const typename S::Vec v = load(x + k + u * S::width);
      most[u] = v > most[u] ? v : most[u];
    }
  }
  T top = most[0][0];
  for (const auto& m : most) {
    for (int i = 0; i < S::width; i++) top = m[i] > top ? m[i] : top;
  }
  for (; k < count; k++) top = x[k] > top ? x[k] : top;
  return top;
}

template <class T>
static void divergence_row(const T* student, const T* teacher, int64_t count, double tau, bool cross_entropy,
                           double* log_student, double* log_teacher, double* mean) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  const T inverse = static_cast<T>(1 / tau), top_s = largest(student, count), top_t = largest(teacher, count);
  const T keep = cross_entropy ? T(0) : T(1);
  double sum_s = 0, sum_t = 0, sum_d = 0;
  for (int64_t from = 0; from < count; from += kSpan) {
    const int64_t to = from + kSpan < count ? from + kSpan : count;
    Vec part_s = {}, part_t = {}, part_d = {};
    for (int64_t k = from; k < to; k += S::width) {
      // Fills are far below the maximum, so that they add nothing to the sums.
      const Vec s = load_up_to(student + k, to - k, top_s - T(1e4) * static_cast<T>(tau));
      const Vec t = load_up_to(teacher + k, to - k, top_t - T(1e4) * static_cast<T>(tau));
      const Vec p = exponential_of<T>((t - top_t) * inverse);
      part_s += exponential_of<T>((s - top_s) * inverse);
      part_t += p;
      part_d += p * ((t - top_t) * keep - (s - top_s));
    }
    sum_s += sum_of<T>(part_s);
    sum_t += sum_of<T>(part_t);
    sum_d += sum_of<T>(part_d);
  }
  const double shift = (cross_entropy ? 0.0 : static_cast<double>(top_t)) - static_cast<double>(top_s);
  *mean = (sum_d / sum_t + shift) / tau;
  *log_student = __builtin_log(sum_s) + top_s / tau;
  *log_teacher = __builtin_log(sum_t) + top_t / tau;
}

template <class T>
static void divergence_slope(const T* student, const T* teacher, int64_t count, double tau,
                             double log_student, double log_teacher, T scale, T* grad) {
  using S = Simd<T>;
  const T inverse = static_cast<T>(1 / tau), log_s = static_cast<T>(log_student),
          log_t = static_cast<T>(log_teacher);
  for (int64_t k = 0; k < count; k += S::width) {
    const typename S::Vec s = load_up_to(student + k, count - k, T(0)),
                          t = load_up_to(teacher + k, count - k, T(0));
    const typename S::Vec difference =
        exponential_of<T>(s * inverse - log_s) - exponential_of<T>(t * inverse - log_t);
    store_up_to(grad + k, difference * scale, count - k);
  }
}
