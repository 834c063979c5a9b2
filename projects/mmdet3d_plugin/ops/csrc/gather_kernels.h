// Gathering weighted cells, vectors running over channels. Compiled once per instruction set inside namespace
// focal::FOCAL_ISA.

// to[c] += scale * from[c] for `count` channels.
template <class T>
FOCAL_INLINE void add_scaled(T* to, const T* from, T scale, int64_t count) {
  int64_t c = 0;
  for (; c + Simd<T>::width <= count; c += Simd<T>::width)
    store(to + c, load(to + c) + scale * load(from + c));
  for (; c < count; c++) to[c] += scale * from[c];
}

template <class T>
FOCAL_INLINE T dot(const T* a, const T* b, int64_t count) {
  typename Simd<T>::Vec even = {}, odd = {};
  constexpr int64_t two = 2 * Simd<T>::width;
  int64_t c = 0;
  for (; c + two <= count; c += two) {
    even += load(a + c) * load(b + c);
    odd += load(a + c + Simd<T>::width) * load(b + c + Simd<T>::width);
  }
  even += odd;
  T sum = 0;
  for (int k = 0; k < Simd<T>::width; k++) sum += even[k];
  for (; c < count; c++) sum += a[c] * b[c];
  return sum;
}

// Asks for the channels of the cell that comes so many corners later: nothing foresees where it lies.
template <class T, bool REWRITTEN>
FOCAL_INLINE void ask_ahead(const GatherCall<T>& call, const T* const* maps, int64_t at, int64_t end,
                            int64_t from, int64_t count) {
  constexpr int64_t kAhead = 6;
  const int64_t next = at + kAhead;
  if (next >= end || call.index[next] < 0) return;
  const T* cell = maps[next / kCorners % call.num_levels] + call.index[next] * call.channels + from;
  for (int64_t c = 0; c < count; c += 64 / sizeof(T)) __builtin_prefetch(cell + c, REWRITTEN, 3);
}

template <class T>
static void gather_rows(const GatherCall<T>& call, int64_t first, int64_t last, T* out) {
  const int64_t per_pair = call.num_levels * kCorners, channels = call.channels;
  const int64_t end = call.begin[last] * per_pair;
  for (int64_t row = first; row < last; row++) {
    T* to = out + row * channels;
    for (int64_t c = 0; c < channels; c++) to[c] = 0;
    for (int64_t at = call.begin[row] * per_pair; at < call.begin[row + 1] * per_pair; at++) {
      ask_ahead<T, false>(call, call.levels, at, end, 0, channels);
      if (call.index[at] < 0) continue;
      const T* cell = call.levels[at / kCorners % call.num_levels] + call.index[at] * channels;
      add_scaled(to, cell, call.weight[at], channels);
    }
  }
}

template <class T>
static void gather_weights(const GatherCall<T>& call, const T* grad, int64_t first, int64_t last,
                           T* grad_weight) {
  const int64_t per_pair = call.num_levels * kCorners, channels = call.channels;
  const int64_t end = call.begin[last] * per_pair;
  for (int64_t row = first; row < last; row++) {
    for (int64_t at = call.begin[row] * per_pair; at < call.begin[row + 1] * per_pair; at++) {
      ask_ahead<T, false>(call, call.levels, at, end, 0, channels);
      grad_weight[at] = 0;
      if (call.index[at] < 0) continue;
      const T* cell = call.levels[at / kCorners % call.num_levels] + call.index[at] * channels;
      grad_weight[at] = dot(grad + row * channels, cell, channels);
    }
  }
}

template <class T>
static void gather_cells(const GatherCall<T>& call, const T* grad, int64_t rows, int64_t from, int64_t to,
                         T* const* grad_levels) {
  const int64_t per_pair = call.num_levels * kCorners, channels = call.channels;
  const int64_t end = call.begin[rows] * per_pair;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t at = call.begin[row] * per_pair; at < call.begin[row + 1] * per_pair; at++) {
      ask_ahead<T, true>(call, grad_levels, at, end, from, to - from);
      if (call.index[at] < 0) continue;
      T* cell = grad_levels[at / kCorners % call.num_levels] + call.index[at] * channels;
      add_scaled(cell + from, grad + row * channels + from, call.weight[at], to - from);
    }
  }
}

template <class T>
static const GatherKernels<T>* gather_table() {
  static const GatherKernels<T> kernels{gather_rows<T>, gather_weights<T>, gather_cells<T>};
  return &kernels;
}
