// Backward: gradients of values, points, weights and anchors.
// Included by msda_kernels.h, once per instruction set.

// dots[4 j + c] (+)= <grad, corner c of point j>, then grad_map[corner c] += corner weight * grad.
template <class T, int NV, bool IN_PLACE>
FOCAL_INLINE void dot_group(const T* base, const T* grad, Block<T>& b, int group, int n, bool first) {
  using Vec = typename Simd<T>::Vec;
  constexpr int width = Simd<T>::width;
  Vec g[NV];
  for (int k = 0; k < NV; k++) g[k] = load(grad + k * width);
  each_point<IN_PLACE>(b, group, n, [&](int j) __attribute__((always_inline)) {
    fetch_corners<false, NV>(base, b, j + kAhead);
    Vec dot[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      const T* p = base + b.index[c][j];
      dot[c] = g[0] * load(p);
#pragma GCC unroll 8
      for (int k = 1; k < NV; k++) dot[c] += g[k] * load(p + k * width);
    }
    if (first) {
      sum_lanes<T>(dot[0], dot[1], dot[2], dot[3], b.dots + 4 * j);
    } else {
      T more[4];
      sum_lanes<T>(dot[0], dot[1], dot[2], dot[3], more);
      for (int c = 0; c < 4; c++) b.dots[4 * j + c] += more[c];
    }
  });
}

template <class T, int NV, bool IN_PLACE>
FOCAL_INLINE void scatter_group(T* base, const T* grad, const Block<T>& b, int group, int n) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::Vec g[NV];
  for (int k = 0; k < NV; k++) g[k] = load(grad + k * width);
  each_point<IN_PLACE>(b, group, n, [&](int j) __attribute__((always_inline)) {
    fetch_corners<true, NV>(base, b, j + kAhead);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      T* p = base + b.index[c][j];
      const T w = b.corner[c][j];
#pragma GCC unroll 8
      for (int k = 0; k < NV; k++) store(p + k * width, load(p + k * width) + w * g[k]);
    }
  });
}

// Gradients of the sampling points and the weights, from the dots of every point.
template <class T>
static void finish_points(const Call<T>& call, Block<T>& b, int count) {
  const bool anchored = call.anchors != nullptr;
  const T* __restrict dots = b.dots;
  T* __restrict grad_points = b.grad_points;
#pragma GCC ivdep
  for (int j = 0; j < count; j++) {
    const T fx = b.fx[j], fy = b.fy[j], gx = 1 - fx, gy = 1 - fy, a = b.weights[j];
    const T d0 = dots[4 * j] * b.x0_in[j] * b.y0_in[j], d1 = dots[4 * j + 1] * b.x1_in[j] * b.y0_in[j];
    const T d2 = dots[4 * j + 2] * b.x0_in[j] * b.y1_in[j], d3 = dots[4 * j + 3] * b.x1_in[j] * b.y1_in[j];
    b.grad_weights[j] = gy * (gx * d0 + fx * d1) + fy * (gx * d2 + fx * d3);
    const T dx = a * (gy * (d1 - d0) + fy * (d3 - d2)), dy = a * (gx * (d2 - d0) + fx * (d3 - d1));
    grad_points[2 * j] = anchored ? dx : dx * b.width[j];
    grad_points[2 * j + 1] = anchored ? dy : dy * b.height[j];
  }
}

// Gradient of the logits from the gradient of the softmax.
template <class T>
static void finish_softmax(Block<T>& b, int groups, int n) {
  using S = Simd<T>;
  const int count = groups * n;
  for (int j = 0; j < count; j += S::width) store(b.fx + j, load(b.weights + j) * load(b.grad_weights + j));
  over_groups(b.fx, b.spread, groups, n, Sum{});
  for (int j = 0; j < count; j += S::width) {
    store(b.grad_weights + j, load(b.weights + j) * (load(b.grad_weights + j) - load(b.spread + j)));
  }
}

template <class T>
FOCAL_INLINE void put(T* to, const T* from, int64_t count, bool add) {
  if (!add) return copy(to, from, count);
  for (int64_t k = 0; k < count; k++) to[k] += from[k];
}

template <class T>
static void write_anchor_gradients(const Call<T>& call, const Block<T>& b, int64_t row, int64_t head,
                                   int first) {
  const int r = call.num_anchors, n = call.num_levels * call.num_points;
  T* to = call.grad_anchors + (row * call.heads + head) * r * 2;
  for (int k = 0; k < 2 * r; k++) to[k] = 0;
  for (int j = first; j < first + n; j++) {
    const int k = (j - first) % call.num_points % r;
    to[2 * k] += b.grad_points[2 * j] * b.width[j];
    to[2 * k + 1] += b.grad_points[2 * j + 1] * b.height[j];
  }
}

template <class T>
static void write_gradients(const Call<T>& call, const Span& span, Block<T>& b) {
  const int n = call.num_levels * call.num_points, per_row = n * span.heads;
  finish_points(call, b, (span.count * per_row + kPad - 1) / kPad * kPad);
  if (call.anchors) finish_softmax(b, span.count * span.heads, n);
  for (int i = 0; i < span.count; i++) {
    const int64_t row = call.order[span.first + i];
    const int64_t at = (query_of(call, row) * call.heads + span.head) * n;
    put(call.grad_points + 2 * at, b.grad_points + 2 * i * per_row, 2 * per_row, call.shared);
    put(call.grad_weights + at, b.grad_weights + i * per_row, per_row, call.shared);
    if (!call.grad_anchors) continue;
    for (int m = 0; m < span.heads; m++)
      write_anchor_gradients(call, b, row, span.head + m, (i * span.heads + m) * n);
  }
}

// Rows [first, last) of one map for heads [head, head + heads): `values` and `grad_values` point at the first
// of these heads of cell 0, cells lie `stride` apart. `wide` has room for the output gradients of a block,
// unless they can be read in place.
template <class T, int NV, bool IN_PLACE>
static void backward_rows(const Call<T>& call, int64_t map, int64_t first, int64_t last, int64_t head,
                          int heads, const T* values, T* grad_values, int32_t stride, T* wide,
                          Prefetcher& ahead, Block<T>& b) {
  constexpr int width = Simd<T>::width;
  const int n = call.num_levels * call.num_points, per_row = n * heads, rows = rows_per_block(call, heads);
  const int64_t padded = padded_channels(call);
  const bool native = is_native(call);
  for (int64_t at = first; at < last; at += rows) {
    const Span span{at, static_cast<int>(last - at < rows ? last - at : rows), head, heads};
    plan_rows<T, true>(call, map, span, b, stride, IN_PLACE ? 0 : static_cast<int32_t>(call.cells * padded));
    __builtin_memset(b.dots, 0, 4 * sizeof(T) * span.count * per_row);
    const T* grads[kBlock];
    for (int i = 0; i < span.count; i++) {
      ahead.advance();
      if (heads == 1) fetch_row<T, true>(call, map, at + rows + i, head);
      const int64_t grad_at = (query_of(call, call.order[at + i]) * call.heads + head) * call.channels;
      grads[i] = native ? static_cast<const T*>(call.grad_out) + grad_at : wide + i * padded;
      if (!native) widen(call.grad_out, call.bfloat16, grad_at, call.channels, padded, wide + i * padded);
    }
    for (int64_t v = 0; v < padded / width; v += NV) {
      for (int i = 0; i < span.count; i++) {
        for (int m = 0; m < heads; m++) {
          const int64_t of = m * call.channels + v * width;
          dot_group<T, NV, IN_PLACE>(values + v * width, grads[i] + of, b, i * heads + m, n, v == 0);
        }
      }
      for (int i = 0; i < span.count; i++) {
        for (int m = 0; m < heads; m++) {
          const int64_t of = m * call.channels + v * width;
          scatter_group<T, NV, IN_PLACE>(grad_values + v * width, grads[i] + of, b, i * heads + m, n);
        }
      }
    }
    write_gradients(call, span, b);
  }
}

template <class T>
static void backward_direct(const Call<T>& call, int64_t map, int64_t head_begin, int64_t head_end,
                            char* scratch) {
  Block<T>& b = *Arena{scratch}.take<Block<T>>(1);
  const int heads = static_cast<int>(head_end - head_begin);
  describe_points(call, b, heads);
  const int64_t step = call.heads * call.channels,
                base = map * call.cells * step + head_begin * call.channels;
  const T* values = static_cast<const T*>(call.value) + base;
  T* grad_values = static_cast<T*>(call.grad_value) + base;
  const int64_t bytes = heads * call.channels * sizeof(T);
  Prefetcher ahead{reinterpret_cast<const char*>(values), reinterpret_cast<const char*>(grad_values),
                   static_cast<int64_t>(step * sizeof(T)), bytes};
  const int64_t last = call.row_begin[map + 1];
  for (int64_t at = call.row_begin[map]; at < last; at += kBackwardWalk.chunk) {
    const int64_t end = at + kBackwardWalk.chunk < last ? at + kBackwardWalk.chunk : last;
    fetch_chunk(call, map, {at, static_cast<int>(end - at), head_begin, heads}, ahead);
    ahead.aim(call, end, end + kBackwardWalk.chunk < last ? end + kBackwardWalk.chunk : last, end - at);
    with_vectors(call.channels / Simd<T>::width, [&](auto nv) {
      backward_rows<T, nv.value, true>(call, map, at, end, head_begin, heads, values, grad_values,
                                       static_cast<int32_t>(step), nullptr, ahead, b);
    });
  }
}

template <class T>
static void backward_slice(const Call<T>& call, const Group& group, int64_t head, char* scratch) {
  Arena arena{scratch};
  Block<T>& b = *arena.take<Block<T>>(1);
  describe_points(call, b, 1);
  const int64_t padded = padded_channels(call), size = (call.cells + 1) * padded;
  T* wide = arena.take<T>(kBlock * padded);
  T* slice = arena.take<T>(size);
  T* grad_slice = arena.take<T>(size);
  Prefetcher ahead{};  // idle
  for (int64_t map = group.map_begin; map < group.map_end; map++) {
    __builtin_memset(grad_slice, 0, size * sizeof(T));
    if (call.row_begin[map] < call.row_begin[map + 1]) {
      pack_heads(call, call.value, map * call.cells, call.cells, head, 1, slice);
      with_vectors(padded / Simd<T>::width, [&](auto nv) {
        backward_rows<T, nv.value, false>(call, map, call.row_begin[map], call.row_begin[map + 1], head, 1,
                                          slice, grad_slice, static_cast<int32_t>(padded), wide, ahead, b);
      });
    }
    unpack_head(call, grad_slice, map * call.cells, call.cells, head, call.grad_value);
  }
}
