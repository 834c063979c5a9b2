// Planning: from offsets and logits to cells, bilinear weights and the points that touch the map.
// Vectors run over points.
// Included by msda_kernels.h, once per instruction set.

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

// Cell, bilinear weights and validity of `count` points; POSITIONS: points are in cells already, not in map
// units. A coordinate that is NaN or far away is moved to where it just misses the map. Indices are those of
// the nearest cells in the map, so they can be followed for every point that touches it; those of the others
// are `nowhere`.
template <class T, bool POSITIONS, bool BACKWARD>
static void plan_points(Block<T>& b, int count, int32_t stride, int32_t nowhere) {
#pragma GCC ivdep
  for (int j = 0; j < count; j++) {
    const T w = b.width[j], h = b.height[j];
    T x = POSITIONS ? b.points[2 * j] : b.points[2 * j] * w - T(0.5);
    T y = POSITIONS ? b.points[2 * j + 1] : b.points[2 * j + 1] * h - T(0.5);
    x = x > T(-2) ? x : T(-2);
    y = y > T(-2) ? y : T(-2);
    x = x < w + 1 ? x : w + 1;
    y = y < h + 1 ? y : h + 1;
    const int32_t x1 = static_cast<int32_t>(x + 2) - 1,
                  y1 = static_cast<int32_t>(y + 2) - 1;  // floor + 1: x + 2 >= 0
    const T fx = x - static_cast<T>(x1 - 1), fy = y - static_cast<T>(y1 - 1);
    const int32_t columns = b.columns[j], rows = b.rows[j];
    const bool left_in = x1 > 0, right_in = x1 < columns, upper_in = y1 > 0, lower_in = y1 < rows;
    const T left = left_in ? 1 - fx : T(0), right = right_in ? fx : T(0), a = b.weights[j];
    const T upper = upper_in ? a - a * fy : T(0), lower = lower_in ? a * fy : T(0);
    const int32_t cx0 = left_in ? x1 - 1 : 0, cx1 = right_in ? x1 : columns - 1;
    const int32_t cy0 = upper_in ? y1 - 1 : 0, cy1 = lower_in ? y1 : rows - 1;
    const int32_t line0 = b.start[j] + cy0 * columns, line1 = b.start[j] + cy1 * columns;
    const bool alive = (x1 >= 0) & (x1 <= columns) & (y1 >= 0) & (y1 <= rows);
    b.alive[j] = alive;
    b.index[0][j] = alive ? (line0 + cx0) * stride + b.shift[j] : nowhere;
    b.index[1][j] = alive ? (line0 + cx1) * stride + b.shift[j] : nowhere;
    b.index[2][j] = alive ? (line1 + cx0) * stride + b.shift[j] : nowhere;
    b.index[3][j] = alive ? (line1 + cx1) * stride + b.shift[j] : nowhere;
    b.corner[0][j] = upper * left;
    b.corner[1][j] = upper * right;
    b.corner[2][j] = lower * left;
    b.corner[3][j] = lower * right;
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

template <class T, bool BACKWARD>
static void plan_rows(const Call<T>& call, int64_t map, const Span& span, Block<T>& b, int32_t stride,
                      int32_t nowhere) {
  const int n = call.num_levels * call.num_points, groups = span.count * span.heads;
  const int padded = (groups * n + kPad - 1) / kPad * kPad;
  read_rows(call, map, span, b);
  if (call.anchors) {
    softmax(b, groups, n);
    add_anchors(call, span, b);
    plan_points<T, true, BACKWARD>(b, padded, stride, nowhere);
  } else {
    plan_points<T, false, BACKWARD>(b, padded, stride, nowhere);
  }
}

template <class T>
static int rows_per_block(const Call<T>& call, int heads) {
  const int points = call.num_levels * call.num_points * heads;
  return kFill / points > 1 ? kFill / points : 1;
}
