// Lift-splat pooling on one core. Compiled once per instruction set inside namespace focal::FOCAL_ISA.
//
// Pixels of one image column look along almost one line from above, so their rays meet the same few cells:
// the slots of the column. Neighbouring bins of a ray in one cell are merged into one weight, W (slots,
// rows), and pooling is a small matrix product per column: cells += W @ context, and going back grad_context
// = W' @ grad and grad_W = grad @ context'. Each cell of the grid is touched once per column.

constexpr int kRows = static_cast<int>(kTile);
constexpr int kMostVectors = 5;  // of channels that are held in registers at once
constexpr int64_t kSpan = 16;  // numbers summed up before their sum joins others: sums of sums are more exact
constexpr int kMixed = -2;     // rows of one bin fall into several cells

#include "arena.h"

// Which pixels a tile holds.
struct Tile {
  int64_t view, row, column;
  int rows, columns;
};

template <class T>
struct SplatScratch {
  T *depth, *context;  // tiles: (columns, bins, kRows) and (columns, rows, channels) or (.., channels, kRows)
  T *grad_depth, *grad_context;  // the same of gradients
  T *weight, *grad_weight, *at;  // (slots, kRows) twice, and the grid's gradient (slots, channels)
  int32_t *table, *cell;         // slot of every cell of the grid or -1; cell of every slot
  int32_t *slot, *bin_slot;      // (bins, kRows) and (bins,): of all rows of a bin, -1 for none, or kMixed
  double* ray;                   // (3, kRows)
  int slots = 0;
  const T* grid;  // (cells, stride), of which `ahead` channels are needed soon after a slot is found
  int64_t stride, ahead;
  size_t bytes;

  SplatScratch(void* memory, const SplatGeometry& g, int64_t channels, bool back, const T* from = nullptr,
               int64_t step = 0)
      : grid(from), stride(step), ahead(channels) {
    Arena arena{static_cast<char*>(memory)};
    const int64_t most = g.num_bins * kRows;
    const auto tile = [&](int64_t items) { return arena.take<T>(kTile * items * kRows); };
    depth = tile(g.num_bins);
    context = tile(channels);
    weight = arena.take<T>(most * kRows);
    table = arena.take<int32_t>(g.height * g.width);
    cell = arena.take<int32_t>(most);
    slot = arena.take<int32_t>(most);
    bin_slot = arena.take<int32_t>(g.num_bins);
    ray = arena.take<double>(3 * kRows);
    if (back) {
      grad_depth = tile(g.num_bins);
      grad_context = tile(channels);
      grad_weight = arena.take<T>((most + kRows) * kRows);
      at = arena.take<T>((most + kRows) * channels);
    }
    bytes = arena.used;
  }
};

template <class T>
static int64_t splat_scratch(const SplatGeometry& g, int64_t channels, bool back) {
  return static_cast<int64_t>(SplatScratch<T>(nullptr, g, channels, back).bytes);
}

// Calls move(place in the map, place in the tile) for items from .. to - 1; the tile has the strides given.
template <class Move>
FOCAL_INLINE void over_items(const Tile& t, int64_t from, int64_t to, int64_t column, int64_t item,
                             int64_t row, Move move) {
  const auto all = [&](auto columns) {
    for (int64_t k = from; k < to; k++)
      for (int r = 0; r < t.rows; r++)
        for (int c = 0; c < columns; c++) move(k, r, c, c * column + (k - from) * item + r * row);
  };
  if (t.columns == kTile) all(std::integral_constant<int, static_cast<int>(kTile)>{});
  else all(t.columns);
}

template <class T, class Source>
static void read_tile(const Tile& t, const Source& map, int64_t from, int64_t to, T* tile, int64_t column,
                      int64_t item, int64_t row) {
  const T* base = map.data + t.view * map.view + t.row * map.row + t.column * map.column;
  over_items(t, from, to, column, item, row, [&](int64_t k, int r, int c, int64_t place) {
    tile[place] = base[k * map.item + r * map.row + c * map.column];
  });
}

// (columns, items, kRows) -> a map.
template <class T>
static void write_tile(const Tile& t, const Map<T>& map, int64_t items, const T* tile) {
  T* base = map.data + t.view * map.view + t.row * map.row + t.column * map.column;
  over_items(t, 0, items, items * kRows, kRows, 1, [&](int64_t k, int r, int c, int64_t place) {
    base[k * map.item + r * map.row + c * map.column] = tile[place];
  });
}

template <class T>
static void read_rays(const SplatGeometry& g, const Tile& t, int column, SplatScratch<T>& s) {
  for (int r = 0; r < kRows; r++) {
    const int64_t row = t.row + (r < t.rows ? r : 0);
    const double* ray = g.ray + 3 * ((t.view * g.rows + row) * g.columns + t.column + column);
    for (int axis = 0; axis < 3; axis++) s.ray[axis * kRows + r] = ray[axis];
  }
}

// Whole cells along one axis. Out of the integers' reach, hardware gives the lowest one, which is outside as
// well.
template <bool Truncate>
FOCAL_INLINE void find_places(double origin, double depth, const double* ray, int32_t* place) {
  using D = Simd<double>;
  typedef int32_t Half __attribute__((vector_size(FOCAL_VECTOR_BYTES / 2), aligned(4), may_alias));
  typedef int64_t Mask __attribute__((vector_size(FOCAL_VECTOR_BYTES)));
  for (int r = 0; r < kRows; r += D::width) {
    const D::Vec x = origin + depth * load(ray + r);
    Half whole = __builtin_convertvector(x, Half);
    if constexpr (!Truncate) {
      const Mask above = __builtin_convertvector(whole, D::Vec) > x;
      whole += __builtin_convertvector(above, Half);  // -1 where truncation went up
    }
    *reinterpret_cast<Half*>(place + r) = whole;
  }
}

using Ints = Simd<float>::Ints;
typedef uint32_t Counts __attribute__((vector_size(FOCAL_VECTOR_BYTES)));
typedef uint64_t Words __attribute__((vector_size(FOCAL_VECTOR_BYTES)));
constexpr int kInts = FOCAL_VECTOR_BYTES / 4;

FOCAL_INLINE Ints load_ints(const int32_t* p) { return *reinterpret_cast<const Ints*>(p); }

// Bits that any, and bits that all lanes have.
FOCAL_INLINE int32_t any_lane(Ints v) {
  uint64_t bits = 0;
  for (int k = 0; k < FOCAL_VECTOR_BYTES / 8; k++) bits |= reinterpret_cast<Words>(v)[k];
  return static_cast<int32_t>(bits | bits >> 32);
}

FOCAL_INLINE int32_t all_lanes(Ints v) { return ~any_lane(~v); }

// Cells of all rows at one depth, -1 outside; returns the one cell of all that are inside, -1 for none, or
// kMixed.
template <bool Truncate>
FOCAL_INLINE int32_t find_cells(const SplatGeometry& g, const double* origin, const double* ray, double depth,
                                const int32_t* live, int32_t* cell) {
  const uint32_t width = static_cast<uint32_t>(g.width), height = static_cast<uint32_t>(g.height);
  int32_t x[kRows], y[kRows], z[kRows];
  find_places<Truncate>(origin[0], depth, ray, x);
  find_places<Truncate>(origin[1], depth, ray + kRows, y);
  find_places<Truncate>(origin[2], depth, ray + 2 * kRows, z);
  Ints any = {}, all = any - 1, inside = {};
  for (int r = 0; r < kRows; r += kInts) {
    const Ints column = load_ints(x + r), row = load_ints(y + r);
    const Ints in = reinterpret_cast<Ints>(reinterpret_cast<Counts>(column) < width) &
                    reinterpret_cast<Ints>(reinterpret_cast<Counts>(row) < height) & (load_ints(z + r) == 0) &
                    load_ints(live + r);
    const Ints at = row * static_cast<int32_t>(width) + column;
    any |= at & in;
    all &= at | ~in;
    inside |= in;
    *reinterpret_cast<Ints*>(cell + r) = at | ~in;
  }
  if (any_lane(inside) == 0) return -1;
  const int32_t one = any_lane(any);
  return one == all_lanes(all) ? one : kMixed;
}

// x (kRows,) where the slot is one, else 0, added to `to` or put in its place.
template <bool Add, class T>
FOCAL_INLINE void keep_rows(const T* x, const int32_t* slot, T* to) {
  if constexpr (sizeof(T) == 4) {
    for (int r = 0; r < kRows; r += kInts) {
      const Ints kept = reinterpret_cast<Ints>(load(x + r)) & (load_ints(slot + r) >= 0);
      store(to + r,
            reinterpret_cast<typename Simd<T>::Vec>(kept) + (Add ? load(to + r) : typename Simd<T>::Vec{}));
    }
  } else {
    for (int r = 0; r < kRows; r++) to[r] = (slot[r] >= 0 ? x[r] : T(0)) + (Add ? to[r] : T(0));
  }
}

template <class T>
FOCAL_INLINE int32_t slot_of(SplatScratch<T>& s, int32_t cell) {
  int32_t slot = s.table[cell];
  if (slot < 0) {
    slot = s.table[cell] = s.slots++;
    s.cell[slot] = cell;
    for (int64_t c = 0; c < s.ahead; c += 64 / sizeof(T)) __builtin_prefetch(s.grid + cell * s.stride + c);
    for (int r = 0; r < kRows; r++) s.weight[slot * kRows + r] = 0;
  }
  return slot;
}

// The slots of one column of pixels, and their weights, from its probabilities (bins, kRows).
template <bool Truncate, class T>
static void find_weights_of(const SplatGeometry& g, const Tile& t, int column, const T* depth,
                            SplatScratch<T>& s) {
  read_rays(g, t, column, s);
  const double* origin = g.origin + 3 * t.view;
  int32_t live[kRows];
  for (int r = 0; r < kRows; r++) live[r] = r < t.rows ? -1 : 0;
  for (int64_t k = 0; k < g.num_bins; k++, depth += kRows) {
    int32_t* slot = s.slot + k * kRows;
    const int32_t one = find_cells<Truncate>(g, origin, s.ray, g.bins[k], live, slot);
    s.bin_slot[k] = one < 0 ? one : slot_of(s, one);
    if (one >= 0) keep_rows<true>(depth, slot, s.weight + s.bin_slot[k] * kRows);
    for (int r = 0; one == kMixed && r < t.rows; r++) {
      if (slot[r] < 0) continue;
      slot[r] = slot_of(s, slot[r]);
      s.weight[slot[r] * kRows + r] += depth[r];
    }
  }
}

template <class T>
static void find_weights(const SplatGeometry& g, const Tile& t, int column, const T* depth,
                         SplatScratch<T>& s) {
  if (g.truncate) find_weights_of<true>(g, t, column, depth, s);
  else find_weights_of<false>(g, t, column, depth, s);
}

template <class T>
static void forget_slots(SplatScratch<T>& s) {
  for (int i = 0; i < s.slots; i++) s.table[s.cell[i]] = -1;
  s.slots = 0;
}

// Calls body(Constant<vectors>{}, first channel) for all whole vectors of channels; returns where the rest
// begins.
template <class T, class Body>
FOCAL_INLINE int64_t over_channels(int64_t channels, Body body) {
  constexpr int64_t width = Simd<T>::width;
  int64_t left = channels / width, at = 0;
  for (int64_t parts = (left + kMostVectors - 1) / kMostVectors; parts > 0; parts--) {
    const int64_t vectors = (left + parts - 1) / parts;
    if (vectors == 1) body(Constant<1>{}, at);
    else if (vectors == 2) body(Constant<2>{}, at);
    else if (vectors == 3) body(Constant<3>{}, at);
    else if (vectors == 4) body(Constant<4>{}, at);
    else body(Constant<5>{}, at);
    left -= vectors;
    at += vectors * width;
  }
  return at;
}

// grid (cells, stride) += weight (slots, kRows) @ context (rows, count).
template <class T>
static void add_slots(const SplatScratch<T>& s, int rows, const T* context, int64_t count, T* grid,
                      int64_t stride) {
  using S = Simd<T>;
  const int64_t rest = over_channels<T>(count, [&](auto vectors, int64_t at) {
    constexpr int V = decltype(vectors)::value;
    const auto some = [&](auto slots, int i) {
      constexpr int N = decltype(slots)::value;
      typename S::Vec sum[N][V] = {};
      for (int r = 0; r < rows; r++) {
        for (int v = 0; v < V; v++) {
          const typename S::Vec feature = load(context + r * count + at + v * S::width);
          for (int k = 0; k < N; k++) sum[k][v] += s.weight[(i + k) * kRows + r] * feature;
        }
      }
      for (int k = 0; k < N; k++) {
        T* to = grid + s.cell[i + k] * stride + at;
        for (int v = 0; v < V; v++) store(to + v * S::width, load(to + v * S::width) + sum[k][v]);
      }
    };
    int i = 0;
    for (; i + 2 <= s.slots; i += 2) some(Constant<2>{}, i);
    if (i < s.slots) some(Constant<1>{}, i);
  });
  for (int i = 0; i < s.slots; i++)
    for (int64_t c = rest; c < count; c++) {
      T sum = 0;
      for (int r = 0; r < rows; r++) sum += s.weight[i * kRows + r] * context[r * count + c];
      grid[s.cell[i] * stride + c] += sum;
    }
}

// out (n, kRows)[i] = sum over j < m of factor[i * by + j * step] * rows (m, kRows)[j].
template <class T>
static void combine_rows(const T* rows, int64_t m, const T* factor, int64_t by, int64_t step, int64_t n,
                         T* out) {
  using S = Simd<T>;
  constexpr int V = kRows / S::width, items = V >= 8 ? 1 : 8 / V;
  const auto some = [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    for (int64_t from = 0; from == 0 || from < m; from += kSpan) {
      typename S::Vec sum[N][V] = {};
      for (int64_t j = from; j < m && j < from + kSpan; j++) {
        typename S::Vec row[V];
        for (int v = 0; v < V; v++) row[v] = load(rows + j * kRows + v * S::width);
        for (int k = 0; k < N; k++)
          for (int v = 0; v < V; v++) sum[k][v] += factor[(i + k) * by + j * step] * row[v];
      }
      for (int k = 0; k < N; k++)
        for (int v = 0; v < V; v++) {
          T* to = out + (i + k) * kRows + v * S::width;
          store(to, from == 0 ? sum[k][v] : load(to) + sum[k][v]);
        }
    }
  };
  int64_t i = 0;
  for (; i + items <= n; i += items) some(Constant<items>{}, i);
  for (; i < n; i++) some(Constant<1>{}, i);
}

// Gradient of a column's probabilities (bins, kRows) from that of its weights.
template <class T>
static void spread_weights(const SplatGeometry& g, const SplatScratch<T>& s, T* grad_depth) {
  for (int64_t k = 0; k < g.num_bins; k++, grad_depth += kRows) {
    const int32_t *slot = s.slot + k * kRows, one = s.bin_slot[k];
    if (one == kMixed) {
      for (int r = 0; r < kRows; r++)
        grad_depth[r] = slot[r] >= 0 ? s.grad_weight[slot[r] * kRows + r] : T(0);
    } else {
      keep_rows<false>(s.grad_weight + (one < 0 ? 0 : one) * kRows, slot, grad_depth);
    }
  }
}

// Calls body(tile) for columns from .. to - 1 of a view, a few rows and columns at a time.
template <class Body>
static void over_tiles(const SplatGeometry& g, int64_t view, int64_t from, int64_t to, Body body) {
  for (int64_t c = from; c < to; c += kTile)
    for (int64_t r = 0; r < g.rows; r += kTile)
      body(Tile{view, r, c, static_cast<int>(g.rows - r < kTile ? g.rows - r : kTile),
                static_cast<int>(to - c < kTile ? to - c : kTile)});
}

template <class T>
static void splat_forward(const SplatGeometry& g, Map<const T> depth, Map<const T> context, int64_t first,
                          int64_t last, int64_t from, int64_t to, int64_t channels, T* grid, void* scratch) {
  const int64_t count = to - from, bins = g.num_bins;
  SplatScratch<T> s(scratch, g, count, false, grid + from, channels);
  for (int64_t i = 0; i < g.height * g.width; i++) s.table[i] = -1;
  for (int64_t view = first; view < last; view++) {
    over_tiles(g, view, 0, g.columns, [&](const Tile& t) {
      read_tile(t, depth, 0, bins, s.depth, bins * kRows, kRows, 1);
      read_tile(t, context, from, to, s.context, count * kRows, 1, count);
      for (int c = 0; c < t.columns; c++) {
        find_weights(g, t, c, s.depth + c * bins * kRows, s);
        add_slots(s, t.rows, s.context + c * count * kRows, count, grid + from, channels);
        forget_slots(s);
      }
    });
  }
}

template <class T>
static void splat_backward(const SplatGeometry& g, Map<const T> depth, Map<const T> context, int64_t view,
                           int64_t from, int64_t to, int64_t channels, const T* grad, Map<T> grad_depth,
                           Map<T> grad_context, void* scratch) {
  const int64_t bins = g.num_bins;
  SplatScratch<T> s(scratch, g, channels, true, grad, channels);
  for (int64_t i = 0; i < g.height * g.width; i++) s.table[i] = -1;
  over_tiles(g, view, from, to, [&](const Tile& t) {
    read_tile(t, depth, 0, bins, s.depth, bins * kRows, kRows, 1);
    read_tile(t, context, 0, channels, s.context, channels * kRows, kRows, 1);
    for (int c = 0; c < t.columns; c++) {
      const T* features = s.context + c * channels * kRows;
      find_weights(g, t, c, s.depth + c * bins * kRows, s);
      for (int i = 0; i < s.slots; i++)
        __builtin_memcpy(s.at + i * channels, grad + s.cell[i] * channels, channels * sizeof(T));
      combine_rows(features, channels, s.at, channels, 1, s.slots, s.grad_weight);
      combine_rows(s.weight, s.slots, s.at, 1, channels, channels, s.grad_context + c * channels * kRows);
      spread_weights(g, s, s.grad_depth + c * bins * kRows);
      forget_slots(s);
    }
    write_tile(t, grad_depth, bins, s.grad_depth);
    write_tile(t, grad_context, channels, s.grad_context);
  });
}

template <class T>
static const SplatKernels<T>* splat_table() {
  static const SplatKernels<T> kernels{splat_scratch<T>, splat_forward<T>, splat_backward<T>};
  return &kernels;
}
