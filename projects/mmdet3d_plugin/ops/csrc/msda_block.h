// Scratch memory: what is known about the points of a block of rows.
// Included by msda_kernels.h, once per instruction set.

constexpr int kPad = 16;   // planned arrays are processed in whole vectors
constexpr int kAhead = 8;  // points between the one whose corners are asked for and the one that is computed
static_assert(kAhead <= kPad, "corners are asked for within the padding behind a block");

// Everything known about the points of a block of rows: groups of n points, one group per (row, head).
template <class T>
struct alignas(64) Block {
  T points[2 * kBlock], weights[kBlock];
  T width[kBlock], height[kBlock];                       // of the point's level
  int32_t columns[kBlock], rows[kBlock], start[kBlock];  // the same as integers, and the level's first cell
  int32_t shift[kBlock];                                 // from the base to the channels of the point's head
  int32_t index[4][kBlock + kPad];  // offsets of corners y0x0, y0x1, y1x0, y1x1 from the base
  T corner[4][kBlock];              // what each corner is multiplied with
  int32_t alive[kBlock];            // does it touch the map
  T spread[kBlock];                 // one number per point, equal within a group
  T fx[kBlock], fy[kBlock];         // backward: position within the cell
  T x0_in[kBlock], x1_in[kBlock], y0_in[kBlock],
      y1_in[kBlock];  // backward: do the cell's sides lie in the map
  T dots[4 * kBlock], grad_points[2 * kBlock], grad_weights[kBlock];
};

#include "arena.h"

// What is the same for every block of rows: `heads` heads of every row.
template <class T>
static void describe_points(const Call<T>& call, Block<T>& b, int heads) {
  __builtin_memset(&b, 0, sizeof(b));
  int head = 0;
  for (int j = 0; j < kBlock; head = head + 1 < heads ? head + 1 : 0) {
    for (int l = 0; l < call.num_levels; l++) {
      const Level level = call.levels[l];
      for (int p = 0; p < call.num_points && j < kBlock; p++, j++) {
        b.columns[j] = level.width;
        b.rows[j] = level.height;
        b.start[j] = level.start;
        b.shift[j] = static_cast<int32_t>(head * call.channels);
        b.width[j] = static_cast<T>(level.width);
        b.height[j] = static_cast<T>(level.height);
      }
    }
  }
}

// Calls body(j) with the points of a group that touch the map; with all of them unless the map is read
// IN_PLACE: in a slice, those that miss it lie in its empty cell. A branch for every point costs more than
// they do.
template <bool IN_PLACE, class T, class Body>
FOCAL_INLINE void each_point(const Block<T>& b, int group, int n, Body body) {
  const int first = group * n;
  if (!IN_PLACE || all_set(b.alive + first, n)) {
    for (int j = first; j < first + n; j++) body(j);
    return;
  }
  int32_t live[kBlock + kPad];
  const int count = list_flags(b.alive, first, first + n, live);
  for (int t = 0; t < count; t++) body(live[t]);
}
