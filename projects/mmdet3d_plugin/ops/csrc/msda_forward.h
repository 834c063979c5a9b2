// Forward: corners are gathered and summed, vectors run over channels.
// Included by msda_kernels.h, once per instruction set.

constexpr int kMaxVectors = 8;  // vectors of channels held in registers by the gather

// sum[NV vectors] = sum over the points of one group of corner weight * corner.
template <class T, int NV, bool IN_PLACE>
FOCAL_INLINE void gather(const T* base, const Block<T>& b, int group, int n, typename Simd<T>::Vec* sum) {
  using Vec = typename Simd<T>::Vec;
  Vec even[NV] = {}, odd[NV] = {};
  each_point<IN_PLACE>(b, group, n, [&](int j) __attribute__((always_inline)) {
    const T *p0 = base + b.index[0][j], *p1 = base + b.index[1][j], *p2 = base + b.index[2][j],
            *p3 = base + b.index[3][j];
    if constexpr (IN_PLACE) fetch_corners<false, NV>(base, b, j + kAhead);
    const T w0 = b.corner[0][j], w1 = b.corner[1][j], w2 = b.corner[2][j], w3 = b.corner[3][j];
#pragma GCC unroll 8
    for (int k = 0; k < NV; k++) {
      even[k] += w0 * load(p0 + k * Simd<T>::width);
      odd[k] += w1 * load(p1 + k * Simd<T>::width);
      even[k] += w2 * load(p2 + k * Simd<T>::width);
      odd[k] += w3 * load(p3 + k * Simd<T>::width);
    }
  });
  for (int k = 0; k < NV; k++) sum[k] = even[k] + odd[k];
}

// Where the sums of a block go.
enum class Sink { plain, streamed, added };

// Gathers one group into to[vectors * width].
template <class T, int NV, Sink SINK, bool IN_PLACE>
FOCAL_INLINE void gather_into(const T* base, const Block<T>& b, int group, int n, int vectors, T* to) {
  constexpr int width = Simd<T>::width;
  for (int v = 0; v < vectors; v += NV) {
    typename Simd<T>::Vec sum[NV];
    gather<T, NV, IN_PLACE>(base + v * width, b, group, n, sum);
    for (int k = 0; k < NV; k++) {
      T* at = to + (v + k) * width;
      if (SINK == Sink::streamed) stream(at, sum[k]);
      if (SINK == Sink::plain) store(at, sum[k]);
      if (SINK == Sink::added) store(at, load(at) + sum[k]);
    }
  }
}

// Calls body(integral constant NV) with the largest register block that divides the channels.
template <class Body>
FOCAL_INLINE void with_vectors(int64_t vectors, Body body) {
  if (vectors % 8 == 0) return body(Constant<8>{});
  if (vectors % 4 == 0) return body(Constant<4>{});
  if (vectors % 2 == 0) return body(Constant<2>{});
  body(Constant<1>{});
}

template <class T, int NV, Sink SINK>
static void forward_rows_direct(const Call<T>& call, int64_t map, int64_t first, int64_t last,
                                Prefetcher& ahead, Block<T>& b) {
  const int heads = static_cast<int>(call.heads), n = call.num_levels * call.num_points;
  const int vectors = static_cast<int>(call.channels) / Simd<T>::width, rows = rows_per_block(call, heads);
  const int32_t stride = static_cast<int32_t>(call.heads * call.channels);
  const T* base = static_cast<const T*>(call.value) + map * call.cells * stride;
  for (int64_t at = first; at < last; at += rows) {
    const Span span{at, static_cast<int>(last - at < rows ? last - at : rows), 0, heads};
    plan_rows<T, false>(call, map, span, b, stride, 0);
    for (int i = 0; i < span.count; i++) {
      ahead.advance();
      T* out = static_cast<T*>(call.out) + query_of(call, call.order[at + i]) * stride;
      for (int m = 0; m < heads; m++) {
        gather_into<T, NV, SINK, true>(base, b, i * heads + m, n, vectors, out + m * call.channels);
      }
    }
  }
}

template <class T>
static void forward_direct(const Call<T>& call, int64_t map, int64_t first, int64_t last, char* scratch) {
  Block<T>& b = *Arena{scratch}.take<Block<T>>(1);
  const int heads = static_cast<int>(call.heads);
  describe_points(call, b, heads);
  const int64_t bytes = heads * call.channels * sizeof(T);
  Prefetcher ahead{static_cast<const char*>(call.value) + map * call.cells * bytes, nullptr, bytes, bytes};
  const bool streamed = is_streamed(call);
  for (int64_t at = first; at < last; at += kForwardWalk.chunk) {
    const int64_t end = at + kForwardWalk.chunk < last ? at + kForwardWalk.chunk : last;
    const int64_t map_end = call.row_begin[map + 1],
                  next_end = end + kForwardWalk.chunk < map_end ? end + kForwardWalk.chunk : map_end;
    fetch_chunk(call, map, {at, static_cast<int>(end - at), 0, heads}, ahead);
    ahead.aim(call, end, next_end, end - at);
    with_vectors(call.channels / Simd<T>::width, [&](auto nv) {
      if (streamed) forward_rows_direct<T, nv.value, Sink::streamed>(call, map, at, end, ahead, b);
      else forward_rows_direct<T, nv.value, Sink::plain>(call, map, at, end, ahead, b);
    });
  }
  stream_fence();
}

// One head of the rows of one map, gathered from its packed slice.
template <class T, int NV>
static void forward_rows_slice(const Call<T>& call, int64_t map, int64_t head, const T* slice, Block<T>& b) {
  const int n = call.num_levels * call.num_points, rows = rows_per_block(call, 1);
  const int64_t padded = padded_channels(call);
  const int vectors = static_cast<int>(padded) / Simd<T>::width;
  alignas(64) T wide[kMaxVectors * Simd<T>::width];
  const bool native = is_native(call), streamed = native && is_streamed(call);
  for (int64_t at = call.row_begin[map], last = call.row_begin[map + 1]; at < last; at += rows) {
    const Span span{at, static_cast<int>(last - at < rows ? last - at : rows), head, 1};
    plan_rows<T, false>(call, map, span, b, static_cast<int32_t>(padded),
                        static_cast<int32_t>(call.cells * padded));
    for (int i = 0; i < span.count; i++) {
      fetch_row<T, false>(call, map, at + rows + i, head);
      const int64_t query = query_of(call, call.order[at + i]),
                    out_at = (query * call.heads + head) * call.channels;
      T* out = static_cast<T*>(call.out) + out_at;
      if (native && call.shared) gather_into<T, NV, Sink::added, false>(slice, b, i, n, vectors, out);
      else if (streamed) gather_into<T, NV, Sink::streamed, false>(slice, b, i, n, vectors, out);
      else if (native) gather_into<T, NV, Sink::plain, false>(slice, b, i, n, vectors, out);
      else
        for (int v = 0; v < vectors; v += NV) {
          gather_into<T, NV, Sink::plain, false>(slice + v * Simd<T>::width, b, i, n, NV, wide);
          const int64_t done = v * Simd<T>::width, left = call.channels - done;
          const int64_t count = left < NV * Simd<T>::width ? left : NV * Simd<T>::width;
          if (call.shared)
            for (int64_t c = 0; c < count; c++) out[done + c] += wide[c];
          else narrow(wide, count, call.out, call.bfloat16, out_at + done);
        }
    }
  }
}

template <class T>
static void forward_slice(const Call<T>& call, const Group& group, int64_t head, int heads, char* scratch) {
  Arena arena{scratch};
  Block<T>& b = *arena.take<Block<T>>(1);
  describe_points(call, b, 1);
  const int64_t padded = padded_channels(call), size = (call.cells + 1) * padded;
  T* slices = arena.take<T>(size * heads);
  for (int64_t map = group.map_begin; map < group.map_end; map++) {
    if (call.row_begin[map] == call.row_begin[map + 1]) continue;
    pack_heads(call, call.value, map * call.cells, call.cells, head, heads, slices);
    with_vectors(padded / Simd<T>::width, [&](auto nv) {
      for (int m = 0; m < heads; m++)
        forward_rows_slice<T, nv.value>(call, map, head + m, slices + m * size, b);
    });
  }
  stream_fence();
}
