// Fetching: memory is asked for while the rows before it are computed.
// Included by msda_kernels.h, once per instruction set.

// Cells of level 0 around what a chunk of rows looks at; false if these lie too far apart for a box to be of
// use.
struct Box {
  static constexpr int kHalo = 5;       // cells around the centres
  static constexpr int kMostCells = 6;  // per row
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
    return cells() <= kMostCells * (last - first);
  }

  int64_t cells() const { return static_cast<int64_t>(x1 - x0 + 1) * (y1 - y0 + 1); }
};

// Asks for the lines that hold `count` numbers; REWRITTEN: they will be changed; LOCALITY: 3 brings them into
// every cache, 2 leaves out the first.
template <bool REWRITTEN, int LOCALITY = 3, class T>
FOCAL_INLINE void fetch(const T* from, int64_t count) {
  const char* at = reinterpret_cast<const char*>(from);
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  for (int64_t o = 0; o < bytes; o += 64) __builtin_prefetch(at + o, REWRITTEN, LOCALITY);
}

// Asks for the corners of planned point j, NV vectors of each.
template <bool REWRITTEN, int NV, class T>
FOCAL_INLINE void fetch_corners(const T* base, const Block<T>& b, int j) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; c++) fetch<REWRITTEN>(base + b.index[c][j], NV * Simd<T>::width);
}

// Streams the cells that the next chunk of rows will look at into the cache while this one computes: the rows
// of a chunk lie in one tile of the map, so this is a box around their centres. Single-level calls only.
struct Prefetcher {
  const char *base, *second;  // cell 0 of the maps to stream; second may be null
  int64_t step, bytes;        // from cell to cell; to fetch of each
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

// Asks for what one head of row order[at] reads and rewrites, to be called while the rows before it are
// computed: in the sequence of what the rows look at, nothing in the processor foresees where the next one
// lies.
template <class T, bool BACKWARD>
FOCAL_INLINE void fetch_row(const Call<T>& call, int64_t map, int64_t at, int64_t head) {
  if (at >= call.row_begin[map + 1]) return;
  const int64_t row = call.order[at], query = query_of(call, row), group = query * call.heads + head;
  const int64_t n = call.num_levels * call.num_points, channels = group * call.channels;
  fetch<false>(
      call.points + map * call.points_at.map + query * call.points_at.query + head * call.points_at.head,
      2 * n);
  fetch<false>(
      call.weights + map * call.weights_at.map + query * call.weights_at.query + head * call.weights_at.head,
      n);
  if (call.anchors) fetch<false>(call.anchors + row * call.num_anchors * 2, call.num_anchors * 2);
  if (!BACKWARD && call.shared) fetch<true>(static_cast<const T*>(call.out) + channels, call.channels);
  if (!BACKWARD) return;
  if (!call.bfloat16) fetch<false>(static_cast<const T*>(call.grad_out) + channels, call.channels);
  fetch<true>(call.grad_points + group * n * 2, 2 * n);
  fetch<true>(call.grad_weights + group * n, n);
}

// Asks for the cells around the first chunk of a map; those of the others were streamed. Rows that look
// anywhere on the map are left alone: what they read overlaps by itself, and asking would take as long.
template <class T>
static void fetch_chunk(const Call<T>& call, int64_t map, const Span& chunk, Prefetcher& ahead) {
  if (chunk.first > call.row_begin[map]) return;
  ahead.aim(call, chunk.first, chunk.first + chunk.count, 1);
  ahead.advance();
}
