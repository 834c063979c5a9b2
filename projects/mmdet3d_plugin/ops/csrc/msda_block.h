// Scratch memory: what is known about the points of a block of rows.
// Included by msda_kernels.h, once per instruction set.

constexpr int kPad = 16;  // planned arrays are processed in whole vectors

// Everything known about the points of a block of rows: groups of n points, one group per (row, head).
template <class T>
struct alignas(64) Block {
  T points[2 * kBlock], weights[kBlock];
  T width[kBlock], height[kBlock];                       // of the point's level
  int32_t columns[kBlock], rows[kBlock], start[kBlock];  // the same as integers, and the level's first cell
  int32_t index[4][kBlock];  // offsets of corners y0x0, y0x1, y1x0, y1x1 from the base
  T corner[4][kBlock];       // what each corner is multiplied with
  int32_t alive[kBlock], live[kBlock + kPad],
      live_count[kBlock];    // touches the map; those that do, and how many, per group
  T spread[kBlock];          // one number per point, equal within a group
  T fx[kBlock], fy[kBlock];  // backward: position within the cell
  T x0_in[kBlock], x1_in[kBlock], y0_in[kBlock],
      y1_in[kBlock];  // backward: do the cell's sides lie in the map
  T dots[4 * kBlock], grad_points[2 * kBlock], grad_weights[kBlock];
};

#include "arena.h"

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
