// Multi-scale deformable attention on one core. Compiled once per instruction set inside namespace focal::FOCAL_ISA.
//
// The points of a block of rows are planned together (vectors run over points: cell indices, bilinear weights,
// softmax), then gathered (vectors run over channels). Points that miss the map are dropped between the two steps,
// so nothing that lies outside of a map is ever read or added.

constexpr int kPad = 16;         // planned arrays are processed in whole vectors
constexpr int kMaxVectors = 8;   // vectors of channels held in registers by the gather

// ---------------------------------------------------------------------------------------------------- scratch

// Everything known about the points of a block of rows: groups of n points, one group per (row, head).
template <class T>
struct alignas(64) Block {
  T points[2 * kBlock], weights[kBlock];
  T width[kBlock], height[kBlock];                          // of the point's level
  int32_t columns[kBlock], rows[kBlock], start[kBlock];     // the same as integers, and the level's first cell
  int32_t index[4][kBlock];                                 // offsets of corners y0x0, y0x1, y1x0, y1x1 from the base
  T corner[4][kBlock];                                      // what each corner is multiplied with
  int32_t alive[kBlock], live[kBlock + kPad], live_count[kBlock];  // touches the map; those that do, and how many, per group
  T spread[kBlock];                                         // one number per point, equal within a group
  T fx[kBlock], fy[kBlock];                                 // backward: position within the cell
  T x0_in[kBlock], x1_in[kBlock], y0_in[kBlock], y1_in[kBlock];  // backward: do the cell's sides lie in the map
  T dots[4 * kBlock], grad_points[2 * kBlock], grad_weights[kBlock];
};

// Hands out aligned pieces of one allocation. With a null base it only measures.
struct Arena {
  char* base;
  size_t used = 0;
  template <class U>
  U* take(size_t count) {
    U* piece = reinterpret_cast<U*>(base + used);
    used += (count * sizeof(U) + 63) / 64 * 64;
    return piece;
  }
};

template <class T>
static void describe_levels(const Call<T>& call, Block<T>& b) {
  const int n = call.num_levels * call.num_points;
  __builtin_memset(&b, 0, sizeof(b));
  for (int j = 0; j < kBlock; j++) {
    const Level level = call.levels[j % n / call.num_points];
    b.columns[j] = level.width;
    b.rows[j] = level.height;
    b.start[j] = level.start;
    b.width[j] = static_cast<T>(level.width);
    b.height[j] = static_cast<T>(level.height);
  }
}

// Cells of level 0 around what a chunk of rows looks at; false if these lie too far apart for a box to be of use.
struct Box {
  static constexpr int kHalo = 5;  // cells around the centres
  static constexpr int kMostCells = 4096;
  int x0, x1, y0, y1;

  template <class T>
  bool surround(const Call<T>& call, int64_t first, int64_t last) {
    if (call.centre == nullptr) return false;
    int left = 1 << 15, right = 0, top = 1 << 15, bottom = 0;
    for (int64_t at = first; at < last; at++) {
      const int cx = call.centre[at] & 0xffff, cy = call.centre[at] >> 16;
      left = cx < left ? cx : left;
      right = cx > right ? cx : right;
      top = cy < top ? cy : top;
      bottom = cy > bottom ? cy : bottom;
    }
    const Level level = call.levels[0];
    x0 = left > kHalo ? left - kHalo : 0;
    y0 = top > kHalo ? top - kHalo : 0;
    x1 = right + kHalo < level.width ? right + kHalo : level.width - 1;
    y1 = bottom + kHalo < level.height ? bottom + kHalo : level.height - 1;
    return cells() <= kMostCells;
  }

  int64_t cells() const { return static_cast<int64_t>(x1 - x0 + 1) * (y1 - y0 + 1); }
};

// Asks for the lines that hold `count` numbers; REWRITTEN: they will be changed; LOCALITY: 3 brings them into every cache, 2
// leaves out the first.
template <bool REWRITTEN, int LOCALITY = 3, class T>
FOCAL_INLINE void fetch(const T* from, int64_t count) {
  const char* at = reinterpret_cast<const char*>(from);
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  for (int64_t o = 0; o < bytes; o += 64) __builtin_prefetch(at + o, REWRITTEN, LOCALITY);
}

// Streams the cells that the next chunk of rows will look at into the cache while this one computes: the rows of a
// chunk lie in one tile of the map, so this is a box around their centres. Single-level calls only.
struct Prefetcher {
  const char *base, *second;            // cell 0 of the maps to stream; second may be null
  int64_t step, bytes;                  // from cell to cell; to fetch of each
  Box box;
  int columns, x, y, per_row;

  template <class T>
  void aim(const Call<T>& call, int64_t first, int64_t last, int64_t rows) {
    per_row = 0;
    if (first >= last || rows <= 0 || !box.surround(call, first, last)) return;
    columns = call.levels[0].width;
    x = box.x0;
    y = box.y0;
    per_row = static_cast<int>((box.cells() + rows - 1) / rows);
  }

  // To be called once per row.
  void advance() {
    for (int k = 0; k < per_row && y <= box.y1; k++) {
      ask((static_cast<int64_t>(y) * columns + x) * step);
      if (++x > box.x1) {
        x = box.x0;
        y++;
      }
    }
  }

  // Asks for what lies `at` bytes from the begin of the maps.
  void ask(int64_t at) const {
    fetch<false, 2>(base + at, bytes);
    if (second) fetch<true, 2>(second + at, bytes);
  }
};

// ---------------------------------------------------------------------------------------------------- planning

// A view of one block: rows order[first .. first + count) and heads [head, head + heads).
struct Span {
  int64_t first;
  int count;
  int64_t head;
  int heads;
};

template <class T>
FOCAL_INLINE int64_t query_of(const Call<T>& call, int64_t row) {
  return call.row_query ? call.row_query[row] : row;
}

template <class T>
FOCAL_INLINE void copy(T* to, const T* from, int64_t count) {
  __builtin_memcpy(to, from, count * sizeof(T));
}

// Asks for what one head of row order[at] reads and rewrites, to be called while the rows before it are computed: in the
// sequence of what the rows look at, nothing in the processor foresees where the next one lies.
template <class T, bool BACKWARD>
FOCAL_INLINE void fetch_row(const Call<T>& call, int64_t map, int64_t at, int64_t head) {
  if (at >= call.row_begin[map + 1]) return;
  const int64_t row = call.order[at], query = query_of(call, row), group = query * call.heads + head;
  const int64_t n = call.num_levels * call.num_points, channels = group * call.channels;
  fetch<false>(call.points + map * call.points_at.map + query * call.points_at.query + head * call.points_at.head, 2 * n);
  fetch<false>(call.weights + map * call.weights_at.map + query * call.weights_at.query + head * call.weights_at.head, n);
  if (call.anchors) fetch<false>(call.anchors + row * call.num_anchors * 2, call.num_anchors * 2);
  if (!BACKWARD && call.shared) fetch<true>(static_cast<const T*>(call.out) + channels, call.channels);
  if (!BACKWARD) return;
  if (!call.bfloat16) fetch<false>(static_cast<const T*>(call.grad_out) + channels, call.channels);
  fetch<true>(call.grad_points + group * n * 2, 2 * n);
  fetch<true>(call.grad_weights + group * n, n);
}

template <class T>
static void read_rows(const Call<T>& call, int64_t map, const Span& span, Block<T>& b) {
  const int n = call.num_levels * call.num_points, per_row = n * span.heads;
  const T* points = call.points + map * call.points_at.map + span.head * call.points_at.head;
  const T* weights = call.weights + map * call.weights_at.map + span.head * call.weights_at.head;
  const bool dense = call.points_at.head == 2 * n && call.weights_at.head == n;
  for (int i = 0; i < span.count; i++) {
    const int64_t query = query_of(call, call.order[span.first + i]);
    const T *from = points + query * call.points_at.query, *weight = weights + query * call.weights_at.query;
    for (int m = 0; m < (dense ? 1 : span.heads); m++) {
      const int count = dense ? per_row : n, to = i * per_row + m * n;
      copy(b.points + 2 * to, from + m * call.points_at.head, 2 * count);
      copy(b.weights + to, weight + m * call.weights_at.head, count);
    }
  }
}

// Adds the anchors of a row, in cells, to its points; R anchors, which divide the points of a level.
template <class T, int R>
static void add_repeated_anchors(const Call<T>& call, const T* anchors, int heads, T* points) {
  for (int l = 0; l < call.num_levels; l++) {
    const T w = static_cast<T>(call.levels[l].width), h = static_cast<T>(call.levels[l].height);
    T tile[2 * R];
    for (int k = 0; k < R; k++) {
      tile[2 * k] = anchors[2 * k] * w - T(0.5);
      tile[2 * k + 1] = anchors[2 * k + 1] * h - T(0.5);
    }
    for (int m = 0; m < heads; m++) {
      T* to = points + 2 * (m * call.num_levels + l) * call.num_points;
      for (int p = 0; p < call.num_points; p += R, to += 2 * R) {
        for (int k = 0; k < 2 * R; k++) to[k] += tile[k];
      }
    }
  }
}

// The same for any number of anchors: point p of a level starts from anchor p % R.
template <class T>
static void add_any_anchors(const Call<T>& call, const T* anchors, int heads, T* points) {
  const int n = call.num_levels * call.num_points;
  for (int j = 0; j < n * heads; j++) {
    const Level level = call.levels[j % n / call.num_points];
    const int k = j % call.num_points % call.num_anchors;
    points[2 * j] += anchors[2 * k] * level.width - T(0.5);
    points[2 * j + 1] += anchors[2 * k + 1] * level.height - T(0.5);
  }
}

// Turns the points of a block, offsets in cells, into positions in cells.
template <class T>
static void add_anchors(const Call<T>& call, const Span& span, Block<T>& b) {
  const int n = call.num_levels * call.num_points, r = call.num_anchors;
  for (int i = 0; i < span.count; i++) {
    const T* anchors = call.anchors + call.order[span.first + i] * static_cast<int64_t>(r) * 2;
    T* points = b.points + 2 * i * n * span.heads;
    const int kind = call.num_points % r ? 0 : r;
    if (kind == 1) add_repeated_anchors<T, 1>(call, anchors, span.heads, points);
    else if (kind == 2) add_repeated_anchors<T, 2>(call, anchors, span.heads, points);
    else if (kind == 4) add_repeated_anchors<T, 4>(call, anchors, span.heads, points);
    else if (kind == 8) add_repeated_anchors<T, 8>(call, anchors, span.heads, points);
    else add_any_anchors(call, anchors, span.heads, points);
  }
}

template <class T>
static void softmax(Block<T>& b, int groups, int n) {
  using S = Simd<T>;
  const int count = groups * n;
  over_groups(b.weights, b.spread, groups, n, Larger{});
  for (int j = 0; j < count; j += S::width) {
    store(b.weights + j, exponential_of<T>(load(b.weights + j) - load(b.spread + j)));
  }
  over_groups(b.weights, b.spread, groups, n, Sum{});
  for (int j = 0; j < count; j += S::width) store(b.weights + j, load(b.weights + j) / load(b.spread + j));
}

// Cell, bilinear weights and validity of `count` points; POSITIONS: points are in cells already, not in map units.
// A coordinate that is NaN or far away is moved to where it just misses the map. Indices are those of the nearest
// cells in the map, so they can be followed for every point that touches it.
template <class T, bool POSITIONS, bool BACKWARD>
static void plan_points(Block<T>& b, int count, int32_t stride) {
#pragma GCC ivdep
  for (int j = 0; j < count; j++) {
    const T w = b.width[j], h = b.height[j];
    T x = POSITIONS ? b.points[2 * j] : b.points[2 * j] * w - T(0.5);
    T y = POSITIONS ? b.points[2 * j + 1] : b.points[2 * j + 1] * h - T(0.5);
    x = x > T(-2) ? x : T(-2);
    y = y > T(-2) ? y : T(-2);
    x = x < w + 1 ? x : w + 1;
    y = y < h + 1 ? y : h + 1;
    const int32_t x1 = static_cast<int32_t>(x + 2) - 1, y1 = static_cast<int32_t>(y + 2) - 1;  // floor + 1: x + 2 >= 0
    const T fx = x - static_cast<T>(x1 - 1), fy = y - static_cast<T>(y1 - 1);
    const int32_t columns = b.columns[j], rows = b.rows[j];
    const bool left_in = x1 > 0, right_in = x1 < columns, upper_in = y1 > 0, lower_in = y1 < rows;
    const T left = left_in ? 1 - fx : T(0), right = right_in ? fx : T(0), a = b.weights[j];
    const T upper = upper_in ? a - a * fy : T(0), lower = lower_in ? a * fy : T(0);
    const int32_t cx0 = left_in ? x1 - 1 : 0, cx1 = right_in ? x1 : columns - 1;
    const int32_t cy0 = upper_in ? y1 - 1 : 0, cy1 = lower_in ? y1 : rows - 1;
    const int32_t line0 = b.start[j] + cy0 * columns, line1 = b.start[j] + cy1 * columns;
    b.index[0][j] = (line0 + cx0) * stride;
    b.index[1][j] = (line0 + cx1) * stride;
    b.index[2][j] = (line1 + cx0) * stride;
    b.index[3][j] = (line1 + cx1) * stride;
    b.corner[0][j] = upper * left;
    b.corner[1][j] = upper * right;
    b.corner[2][j] = lower * left;
    b.corner[3][j] = lower * right;
    b.alive[j] = (x1 >= 0) & (x1 <= columns) & (y1 >= 0) & (y1 <= rows);
    if (BACKWARD) {
      b.fx[j] = fx;
      b.fy[j] = fy;
      b.x0_in[j] = left_in ? T(1) : T(0);
      b.x1_in[j] = right_in ? T(1) : T(0);
      b.y0_in[j] = upper_in ? T(1) : T(0);
      b.y1_in[j] = lower_in ? T(1) : T(0);
    }
  }
}

// Lists, per group, the points that touch the map.
template <class T>
static void list_live(Block<T>& b, int groups, int n) {
  for (int g = 0; g < groups; g++) b.live_count[g] = list_flags(b.alive, g * n, (g + 1) * n, b.live + g * n);
}

template <class T, bool BACKWARD>
static void plan_rows(const Call<T>& call, int64_t map, const Span& span, Block<T>& b, int32_t stride) {
  const int n = call.num_levels * call.num_points, groups = span.count * span.heads;
  const int padded = (groups * n + kPad - 1) / kPad * kPad;
  read_rows(call, map, span, b);
  if (call.anchors) {
    softmax(b, groups, n);
    add_anchors(call, span, b);
    plan_points<T, true, BACKWARD>(b, padded, stride);
  } else {
    plan_points<T, false, BACKWARD>(b, padded, stride);
  }
  list_live(b, groups, n);
}

template <class T>
static int rows_per_block(const Call<T>& call, int heads) {
  const int points = call.num_levels * call.num_points * heads;
  return kFill / points > 1 ? kFill / points : 1;
}

// Asks for all cells that rows [first, last) will read, for rows that look anywhere on the map. Done for many rows before
// the first of them is computed: requests overlap far better with each other than with loads that wait for them.
template <class T>
static void fetch_rows(const Call<T>& call, int64_t map, const Span& all, const Prefetcher& maps, Block<T>& b) {
  const int n = call.num_levels * call.num_points, rows = rows_per_block(call, all.heads);
  const int64_t cell = maps.step / sizeof(T), head_bytes = call.channels * sizeof(T);
  Prefetcher head = maps;
  head.bytes = head_bytes;
  for (int64_t at = 0; at < all.count; at += rows) {
    const Span span{all.first + at, static_cast<int>(all.count - at < rows ? all.count - at : rows), all.head, all.heads};
    plan_rows<T, false>(call, map, span, b, static_cast<int32_t>(cell));
    for (int j = 0; j < span.count * span.heads * n; j++) {
      for (int c = 0; c < 4; c++) head.ask(b.index[c][j] * static_cast<int64_t>(sizeof(T)) + j / n % span.heads * head_bytes);
    }
  }
}

// What must be asked for before a chunk is computed: everything that the chunk before it could not stream.
template <class T>
static void fetch_chunk(const Call<T>& call, int64_t map, const Span& chunk, Prefetcher& ahead, Block<T>& b) {
  Box box;
  if (!box.surround(call, chunk.first, chunk.first + chunk.count)) return fetch_rows(call, map, chunk, ahead, b);
  if (chunk.first > call.row_begin[map]) return;
  ahead.aim(call, chunk.first, chunk.first + chunk.count, 1);
  ahead.advance();
}

// ---------------------------------------------------------------------------------------------------- slices

template <class T>
static int64_t padded_channels(const Call<T>& call) {
  return (call.channels + Simd<T>::width - 1) / Simd<T>::width * Simd<T>::width;
}

// `count` stored numbers (T or bfloat16) at element `at` of `storage` -> to[count]; zeros up to `padded`.
template <class T>
FOCAL_INLINE void widen(const void* storage, bool bfloat16, int64_t at, int64_t count, int64_t padded, T* to) {
  if (bfloat16) {
    const uint16_t* from = static_cast<const uint16_t*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from_bfloat16(from[c]);
  } else {
    const T* from = static_cast<const T*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from[c];
  }
  for (int64_t c = count; c < padded; c++) to[c] = 0;
}

template <class T>
FOCAL_INLINE void narrow(const T* from, int64_t count, void* storage, bool bfloat16, int64_t at) {
  if (bfloat16) {
    uint16_t* to = static_cast<uint16_t*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = to_bfloat16(static_cast<float>(from[c]));
  } else {
    T* to = static_cast<T*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from[c];
  }
}

// Is a head of the stored tensor a whole number of vectors of T?
template <class T>
FOCAL_INLINE bool is_native(const Call<T>& call) {
  return !call.bfloat16 && call.channels % Simd<T>::width == 0;
}

// Outputs beyond this size are written past the caches.
constexpr int64_t kStreamBytes = 8 << 20;

template <class T>
static bool is_streamed(const Call<T>& call) {
  return call.out_bytes > kStreamBytes && reinterpret_cast<uintptr_t>(call.out) % FOCAL_VECTOR_BYTES == 0;
}

// Some heads of `count` consecutive cells of a (.., heads, channels) tensor -> to[heads][count][padded].
template <class T>
static void pack_heads(const Call<T>& call, const void* storage, int64_t first, int64_t count, int64_t head, int heads,
                       T* to) {
  const int64_t channels = call.channels, padded = padded_channels(call), step = call.heads * channels;
  const int64_t at = (first * call.heads + head) * channels, size = count * padded;
  if (!is_native(call)) {
    for (int64_t s = 0; s < count; s++) {
      for (int m = 0; m < heads; m++) {
        widen(storage, call.bfloat16, at + s * step + m * channels, channels, padded, to + m * size + s * padded);
      }
    }
    return;
  }
  constexpr int64_t kAhead = 16;  // cells
  const T* from = static_cast<const T*>(storage) + at;
  for (int64_t s = 0; s < count; s++, from += step) {
    for (int64_t c = 0; c < heads * channels; c += 64 / sizeof(T)) __builtin_prefetch(from + kAhead * step + c);
    for (int m = 0; m < heads; m++) {
      for (int64_t c = 0; c < channels; c += Simd<T>::width) {
        store(to + m * size + s * channels + c, load(from + m * channels + c));
      }
    }
  }
}

template <class T>
static void unpack_head(const Call<T>& call, const T* from, int64_t first, int64_t count, int64_t head, void* storage) {
  const int64_t channels = call.channels, padded = padded_channels(call), step = call.heads * channels;
  const int64_t at = (first * call.heads + head) * channels;
  if (!is_native(call) || reinterpret_cast<uintptr_t>(storage) % FOCAL_VECTOR_BYTES) {
    for (int64_t s = 0; s < count; s++) narrow(from + s * padded, channels, storage, call.bfloat16, at + s * step);
    return;
  }
  T* to = static_cast<T*>(storage) + at;
  for (int64_t s = 0; s < count; s++) {
    for (int64_t c = 0; c < channels; c += Simd<T>::width) stream(to + s * step + c, load(from + s * channels + c));
  }
  stream_fence();
}

// ---------------------------------------------------------------------------------------------------- forward

// sum[NV vectors] = sum over the live points of one group of corner weight * corner.
template <class T, int NV>
FOCAL_INLINE void gather(const T* base, const Block<T>& b, const int32_t* live, int count, typename Simd<T>::Vec* sum) {
  using Vec = typename Simd<T>::Vec;
  Vec even[NV] = {}, odd[NV] = {};
  for (int t = 0; t < count; t++) {
    const int j = live[t];
    const T *p0 = base + b.index[0][j], *p1 = base + b.index[1][j], *p2 = base + b.index[2][j], *p3 = base + b.index[3][j];
    const T w0 = b.corner[0][j], w1 = b.corner[1][j], w2 = b.corner[2][j], w3 = b.corner[3][j];
#pragma GCC unroll 8
    for (int k = 0; k < NV; k++) {
      even[k] += w0 * load(p0 + k * Simd<T>::width);
      odd[k] += w1 * load(p1 + k * Simd<T>::width);
      even[k] += w2 * load(p2 + k * Simd<T>::width);
      odd[k] += w3 * load(p3 + k * Simd<T>::width);
    }
  }
  for (int k = 0; k < NV; k++) sum[k] = even[k] + odd[k];
}

// Where the sums of a block go.
enum class Sink { plain, streamed, added };

// Gathers one group into to[vectors * width].
template <class T, int NV, Sink SINK>
FOCAL_INLINE void gather_into(const T* base, const Block<T>& b, int group, int n, int vectors, T* to) {
  constexpr int width = Simd<T>::width;
  for (int v = 0; v < vectors; v += NV) {
    typename Simd<T>::Vec sum[NV];
    gather<T, NV>(base + v * width, b, b.live + group * n, b.live_count[group], sum);
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
static void forward_rows_direct(const Call<T>& call, int64_t map, int64_t first, int64_t last, Prefetcher& ahead,
                                Block<T>& b) {
  const int heads = static_cast<int>(call.heads), n = call.num_levels * call.num_points;
  const int vectors = static_cast<int>(call.channels) / Simd<T>::width, rows = rows_per_block(call, heads);
  const int32_t stride = static_cast<int32_t>(call.heads * call.channels);
  const T* base = static_cast<const T*>(call.value) + map * call.cells * stride;
  for (int64_t at = first; at < last; at += rows) {
    const Span span{at, static_cast<int>(last - at < rows ? last - at : rows), 0, heads};
    plan_rows<T, false>(call, map, span, b, stride);
    for (int i = 0; i < span.count; i++) {
      ahead.advance();
      T* out = static_cast<T*>(call.out) + query_of(call, call.order[at + i]) * stride;
      for (int m = 0; m < heads; m++) {
        gather_into<T, NV, SINK>(base + m * call.channels, b, i * heads + m, n, vectors, out + m * call.channels);
      }
    }
  }
}

template <class T>
static void forward_direct(const Call<T>& call, int64_t map, int64_t first, int64_t last, char* scratch) {
  Block<T>& b = *Arena{scratch}.take<Block<T>>(1);
  describe_levels(call, b);
  const int heads = static_cast<int>(call.heads);
  const int64_t bytes = heads * call.channels * sizeof(T);
  Prefetcher ahead{static_cast<const char*>(call.value) + map * call.cells * bytes, nullptr, bytes, bytes};
  const bool streamed = is_streamed(call);
  for (int64_t at = first; at < last; at += kForwardWalk.chunk) {
    const int64_t end = at + kForwardWalk.chunk < last ? at + kForwardWalk.chunk : last;
    const int64_t map_end = call.row_begin[map + 1], next_end = end + kForwardWalk.chunk < map_end ? end + kForwardWalk.chunk : map_end;
    fetch_chunk(call, map, {at, static_cast<int>(end - at), 0, heads}, ahead, b);
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
    plan_rows<T, false>(call, map, span, b, static_cast<int32_t>(padded));
    for (int i = 0; i < span.count; i++) {
      fetch_row<T, false>(call, map, at + rows + i, head);
      const int64_t query = query_of(call, call.order[at + i]), out_at = (query * call.heads + head) * call.channels;
      T* out = static_cast<T*>(call.out) + out_at;
      if (native && call.shared) gather_into<T, NV, Sink::added>(slice, b, i, n, vectors, out);
      else if (streamed) gather_into<T, NV, Sink::streamed>(slice, b, i, n, vectors, out);
      else if (native) gather_into<T, NV, Sink::plain>(slice, b, i, n, vectors, out);
      else for (int v = 0; v < vectors; v += NV) {
        gather_into<T, NV, Sink::plain>(slice + v * Simd<T>::width, b, i, n, NV, wide);
        const int64_t done = v * Simd<T>::width, left = call.channels - done;
        const int64_t count = left < NV * Simd<T>::width ? left : NV * Simd<T>::width;
        if (call.shared) for (int64_t c = 0; c < count; c++) out[done + c] += wide[c];
        else narrow(wide, count, call.out, call.bfloat16, out_at + done);
      }
    }
  }
}

template <class T>
static void forward_slice(const Call<T>& call, const Group& group, int64_t head, int heads, char* scratch) {
  Arena arena{scratch};
  Block<T>& b = *arena.take<Block<T>>(1);
  describe_levels(call, b);
  const int64_t padded = padded_channels(call), size = call.cells * padded;
  T* slices = arena.take<T>(size * heads);
  for (int64_t map = group.map_begin; map < group.map_end; map++) {
    if (call.row_begin[map] == call.row_begin[map + 1]) continue;
    pack_heads(call, call.value, map * call.cells, call.cells, head, heads, slices);
    with_vectors(padded / Simd<T>::width, [&](auto nv) {
      for (int m = 0; m < heads; m++) forward_rows_slice<T, nv.value>(call, map, head + m, slices + m * size, b);
    });
  }
  stream_fence();
}

// ---------------------------------------------------------------------------------------------------- backward

// dots[4 j + c] (+)= <grad, corner c of point j>, then grad_map[corner c] += corner weight * grad.
template <class T, int NV>
FOCAL_INLINE void dot_group(const T* base, const T* grad, Block<T>& b, int group, int n, bool first) {
  using Vec = typename Simd<T>::Vec;
  constexpr int width = Simd<T>::width;
  Vec g[NV];
  for (int k = 0; k < NV; k++) g[k] = load(grad + k * width);
  const int32_t* live = b.live + group * n;
  for (int t = 0; t < b.live_count[group]; t++) {
    const int j = live[t];
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
  }
}

template <class T, int NV>
FOCAL_INLINE void scatter_group(T* base, const T* grad, const Block<T>& b, int group, int n) {
  constexpr int width = Simd<T>::width;
  typename Simd<T>::Vec g[NV];
  for (int k = 0; k < NV; k++) g[k] = load(grad + k * width);
  const int32_t* live = b.live + group * n;
  for (int t = 0; t < b.live_count[group]; t++) {
    const int j = live[t];
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      T* p = base + b.index[c][j];
      const T w = b.corner[c][j];
#pragma GCC unroll 8
      for (int k = 0; k < NV; k++) store(p + k * width, load(p + k * width) + w * g[k]);
    }
  }
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
static void write_anchor_gradients(const Call<T>& call, const Block<T>& b, int64_t row, int64_t head, int first) {
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
    for (int m = 0; m < span.heads; m++) write_anchor_gradients(call, b, row, span.head + m, (i * span.heads + m) * n);
  }
}

// Rows [first, last) of one map for heads [head, head + heads): `values` and `grad_values` point at the first of these
// heads of cell 0, cells lie `stride` apart. `wide` has room for the output gradients of a block, unless they can be
// read in place.
template <class T, int NV>
static void backward_rows(const Call<T>& call, int64_t map, int64_t first, int64_t last, int64_t head, int heads,
                          const T* values, T* grad_values, int32_t stride, T* wide, Prefetcher& ahead, Block<T>& b) {
  constexpr int width = Simd<T>::width;
  const int n = call.num_levels * call.num_points, per_row = n * heads, rows = rows_per_block(call, heads);
  const int64_t padded = padded_channels(call);
  const bool native = is_native(call);
  for (int64_t at = first; at < last; at += rows) {
    const Span span{at, static_cast<int>(last - at < rows ? last - at : rows), head, heads};
    plan_rows<T, true>(call, map, span, b, stride);
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
          const int64_t to = m * call.channels + v * width;
          dot_group<T, NV>(values + to, grads[i] + to, b, i * heads + m, n, v == 0);
        }
      }
      for (int i = 0; i < span.count; i++) {
        for (int m = 0; m < heads; m++) {
          const int64_t to = m * call.channels + v * width;
          scatter_group<T, NV>(grad_values + to, grads[i] + to, b, i * heads + m, n);
        }
      }
    }
    write_gradients(call, span, b);
  }
}

template <class T>
static void backward_direct(const Call<T>& call, int64_t map, int64_t head_begin, int64_t head_end, char* scratch) {
  Block<T>& b = *Arena{scratch}.take<Block<T>>(1);
  describe_levels(call, b);
  const int64_t step = call.heads * call.channels, base = map * call.cells * step + head_begin * call.channels;
  const T* values = static_cast<const T*>(call.value) + base;
  T* grad_values = static_cast<T*>(call.grad_value) + base;
  const int heads = static_cast<int>(head_end - head_begin);
  const int64_t bytes = heads * call.channels * sizeof(T);
  Prefetcher ahead{reinterpret_cast<const char*>(values), reinterpret_cast<const char*>(grad_values),
                   static_cast<int64_t>(step * sizeof(T)), bytes};
  const int64_t last = call.row_begin[map + 1];
  for (int64_t at = call.row_begin[map]; at < last; at += kBackwardWalk.chunk) {
    const int64_t end = at + kBackwardWalk.chunk < last ? at + kBackwardWalk.chunk : last;
    fetch_chunk(call, map, {at, static_cast<int>(end - at), head_begin, heads}, ahead, b);
    ahead.aim(call, end, end + kBackwardWalk.chunk < last ? end + kBackwardWalk.chunk : last, end - at);
    with_vectors(call.channels / Simd<T>::width, [&](auto nv) {
      backward_rows<T, nv.value>(call, map, at, end, head_begin, heads, values,
                                 grad_values, static_cast<int32_t>(step), nullptr, ahead, b);
    });
  }
}

template <class T>
static void backward_slice(const Call<T>& call, const Group& group, int64_t head, char* scratch) {
  Arena arena{scratch};
  Block<T>& b = *arena.take<Block<T>>(1);
  describe_levels(call, b);
  const int64_t padded = padded_channels(call), size = call.cells * padded;
  T* wide = arena.take<T>(kBlock * padded);
  T* slice = arena.take<T>(size);
  T* grad_slice = arena.take<T>(size);
  Prefetcher ahead{};  // idle
  for (int64_t map = group.map_begin; map < group.map_end; map++) {
    __builtin_memset(grad_slice, 0, size * sizeof(T));
    if (call.row_begin[map] < call.row_begin[map + 1]) {
      pack_heads(call, call.value, map * call.cells, call.cells, head, 1, slice);
      with_vectors(padded / Simd<T>::width, [&](auto nv) {
        backward_rows<T, nv.value>(call, map, call.row_begin[map], call.row_begin[map + 1], head, 1, slice, grad_slice,
                                   static_cast<int32_t>(padded), wide, ahead, b);
      });
    }
    unpack_head(call, grad_slice, map * call.cells, call.cells, head, call.grad_value);
  }
}

// ---------------------------------------------------------------------------------------------------- table

template <class T>
static size_t direct_bytes(const Call<T>&) {
  return sizeof(Block<T>);
}

template <class T>
static size_t slice_bytes(const Call<T>& call, int slices, bool backward) {
  Arena arena{nullptr};
  arena.take<Block<T>>(1);
  const int64_t padded = padded_channels(call);
  if (backward) arena.take<T>(kBlock * padded);
  for (int k = 0; k < slices; k++) arena.take<T>(call.cells * padded);
  return arena.used;
}

template <class T>
static const Kernels<T>* table(const char* name) {
  static constexpr int width = Simd<T>::width;
  static const Kernels<T> kernels{name, width, direct_bytes<T>, slice_bytes<T>, forward_direct<T>,
                                  backward_direct<T>, forward_slice<T>, backward_slice<T>};
  return &kernels;
}
