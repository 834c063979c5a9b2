// What one call of multi-scale deformable attention looks like to a CPU kernel.
// Plain data only: this header is compiled once per instruction set, so it must not pull in code that a
// linker could share between those copies.
#pragma once
#include <cstddef>
#include <cstdint>

namespace focal {

constexpr int kBlock = 256;  // most points of a group; direct kernels: of all heads of a row
constexpr int kFill = 256;   // points planned at once, unless a single row has more

// Rows are computed tile by tile, tiles of 2^tile_bits squared cells of level 0, and a chunk of rows while
// the cells of the next are fetched. Backward reads the map and adds to its gradient: twice as much for the
// same cache. A single level is read in place unless more than `corners` are read per cell: then a copy of
// each head is.
struct Walk {
  int32_t tile_bits;
  int64_t chunk, corners;
};
constexpr Walk kForwardWalk{4, 256, 48}, kBackwardWalk{3, 64, INT32_MAX};

struct Level {
  int32_t height, width, start;  // start: first cell of the level in the flattened map
};

// Elements from one map, query and head to the next. Queries count through all maps, so `map` holds what a
// map's begin differs from where its first query would lie.
struct Steps {
  int64_t map, query, head;
};

// A row is one (query, map) pair. Rows are grouped by map; `order` lists the rows of every map in the
// sequence in which they are computed, and map v owns order[row_begin[v] .. row_begin[v + 1]).
template <class T>
struct Call {
  const void* value = nullptr;  // (maps, cells, heads, channels), T or bfloat16
  bool bfloat16 =
      false;  // storage of value, grad_out, grad_value and (unless shared) out; arithmetic is in T
  int64_t maps = 0, cells = 0, heads = 0, channels = 0;
  const Level* levels = nullptr;
  int32_t num_levels = 0, num_points = 0;  // num_points: per level

  const int32_t* order = nullptr;
  const int64_t* row_begin = nullptr;
  const int32_t* centre =
      nullptr;  // per entry of `order`: cell (y << 16 | x) of level 0 it looks at, or nullptr
  const int32_t* row_query = nullptr;  // query of a row; nullptr: the row itself
  bool shared = false;                 // several rows may name one query: their results add up

  const T* points =
      nullptr;  // (queries, heads, levels, points, 2): locations, or offsets in cells when anchored
  const T* weights = nullptr;  // (queries, heads, levels * points): weights, or logits when anchored
  Steps points_at{}, weights_at{};
  const T* anchors = nullptr;  // (rows, num_anchors, 2) reference points; nullptr: points are locations
  int32_t num_anchors = 0;

  void* out = nullptr;  // (queries, heads, channels); T and zeroed when shared
  int64_t out_bytes = 0;

  const void* grad_out = nullptr;
  void* grad_value = nullptr;
  T* grad_points = nullptr;
  T* grad_weights = nullptr;
  T* grad_anchors = nullptr;  // (rows, heads, num_anchors, 2), or nullptr when not asked for
};

// Maps whose queries no other map names: one task computes them one after the other.
struct Group {
  int64_t map_begin, map_end;
};

template <class T>
struct Kernels {
  const char* name;
  int width;  // lanes of T in one vector
  // Bytes of scratch that a task needs; slices: heads of a forward task, 2 for a backward task.
  size_t (*direct_bytes)(const Call<T>&);
  size_t (*slice_bytes)(const Call<T>&, int slices, bool backward);
  // Direct: gather from the map where it lies (native storage, channels a multiple of `width`).
  void (*forward_direct)(const Call<T>&, int64_t map, int64_t first, int64_t last, char* scratch);
  void (*backward_direct)(const Call<T>&, int64_t map, int64_t head_begin, int64_t head_end, char* scratch);
  // Slice: copy single heads of a map into dense buffers first, then gather from those.
  void (*forward_slice)(const Call<T>&, const Group&, int64_t head, int heads, char* scratch);
  void (*backward_slice)(const Call<T>&, const Group&, int64_t head, char* scratch);
};

template <class T>
const Kernels<T>* baseline_kernels();
template <class T>
const Kernels<T>* avx2_kernels();
template <class T>
const Kernels<T>* avx512_kernels();

}  // namespace focal
