// Voxel query on CPU: the first voxels around points, in the order of their cells.
//
// A dense table of all cells takes 47 MB for one sample of KITTI's second stage. One bit per cell takes
// 1.5 MB, which stays in the cache: a row of nine cells is two words, and most rows are empty. The number
// of bits before a word says which voxel a bit is.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <array>
#include <vector>

#include "with_type.h"

namespace focal {
namespace {

using at::Tensor;
constexpr int kMaxReach = 31;  // 2 * 31 + 1 cells of a row fit into one word
constexpr int64_t kGrain = 256;

// Which cells hold a voxel, and which one.
class CellIndex {
 public:
  CellIndex(const Tensor& indices, int64_t samples, const std::array<int64_t, 3>& shape)
      : shape_(shape), bits_(samples * shape[0] * shape[1] * shape[2] / 64 + 2, 0), before_(bits_.size()),
        row_(indices.size(0)) {
    const int32_t* at = indices.const_data_ptr<int32_t>();
    const int64_t count = indices.size(0);
    std::vector<int64_t> cell(count);
    for (int64_t v = 0; v < count; v++, at += 4) {
      TORCH_CHECK(at[0] >= 0 && at[0] < samples && at[1] >= 0 && at[1] < shape[0] && at[2] >= 0 &&
                      at[2] < shape[1] && at[3] >= 0 && at[3] < shape[2],
                  "voxel ", v, " lies outside the grid");
      cell[v] = row_start(at[0], at[1], at[2]) + at[3];
      const uint64_t bit = uint64_t{1} << (cell[v] & 63);
      TORCH_CHECK(!(bits_[cell[v] >> 6] & bit), "voxel ", v, " lies in the cell of another");
      bits_[cell[v] >> 6] |= bit;
    }
    int32_t sum = 0;
    for (size_t word = 0; word < bits_.size(); word++) {
      before_[word] = sum;
      sum += __builtin_popcountll(bits_[word]);
    }
    for (int64_t v = 0; v < count; v++) row_[rank(cell[v])] = static_cast<int32_t>(v);
  }

  int64_t row_start(int64_t sample, int64_t z, int64_t y) const {
    return ((sample * shape_[0] + z) * shape_[1] + y) * shape_[2];
  }

  // The occupied ones of `count` <= 63 cells from `first` on, the lowest bit first.
  uint64_t occupied(int64_t first, int64_t count) const {
    const int64_t word = first >> 6, shift = first & 63;
    uint64_t found = bits_[word] >> shift;
    if (shift) found |= bits_[word + 1] << (64 - shift);
    return found & ((uint64_t{1} << count) - 1);
  }

  // The voxel in a cell that is occupied.
  int32_t voxel(int64_t cell) const { return row_[rank(cell)]; }

 private:
  int32_t rank(int64_t cell) const {
    const uint64_t below = bits_[cell >> 6] & ((uint64_t{1} << (cell & 63)) - 1);
    return before_[cell >> 6] + __builtin_popcountll(below);
  }

  std::array<int64_t, 3> shape_;
  std::vector<uint64_t> bits_;
  std::vector<int32_t> before_, row_;
};

template <class T>
struct Ball {
  std::array<T, 3> origin, size;  // metres, x, y, z
  std::array<int64_t, 3> cells;   // along x, y, z
  int64_t reach, neighbours;
  T radius_squared;

  T gap(int axis, int64_t cell, T place) const {
    const T d = (static_cast<T>(cell) + T(0.5)) * size[axis] + origin[axis] - place;
    return d * d;
  }

  int64_t first(int axis, int64_t own) const { return std::max<int64_t>(own - reach, 0); }
  int64_t last(int axis, int64_t own) const { return std::min<int64_t>(own + reach, cells[axis] - 1); }

  // Writes rows of voxels; `out` holds -1 already. Sums grow from z over y to x, so a plane or row that is
  // too far away by itself can be left out without changing what is found.
  void query(const CellIndex& index, const T* place, int64_t sample, int64_t* out) const {
    std::array<int64_t, 3> own;
    for (int axis = 0; axis < 3; axis++)
      own[axis] = static_cast<int64_t>(std::floor((place[axis] - origin[axis]) / size[axis]));
    const int64_t x0 = first(0, own[0]), count = last(0, own[0]) - x0 + 1;
    if (count <= 0) return;
    int64_t found = 0;
    for (int64_t z = first(2, own[2]); z <= last(2, own[2]); z++) {
      const T far_z = gap(2, z, place[2]);
      if (far_z > radius_squared) continue;
      for (int64_t y = first(1, own[1]); y <= last(1, own[1]); y++) {
        const T far_y = far_z + gap(1, y, place[1]);
        if (far_y > radius_squared) continue;
        const int64_t start = index.row_start(sample, z, y) + x0;
        for (uint64_t cells = index.occupied(start, count); cells; cells &= cells - 1) {
          const int64_t x = __builtin_ctzll(cells);
          if (far_y + gap(0, x0 + x, place[0]) > radius_squared) continue;
          out[found++] = index.voxel(start + x);
          if (found == neighbours) return;
        }
      }
    }
  }
};

Tensor voxel_query(const Tensor& queries_, const Tensor& sample_, const Tensor& indices_,
                   at::IntArrayRef shape, at::ArrayRef<double> origin, at::ArrayRef<double> size,
                   int64_t samples, int64_t reach, double radius, int64_t neighbours) {
  TORCH_CHECK(queries_.dim() == 2 && queries_.size(1) == 3, "queries must be (M, 3), got ", queries_.sizes());
  TORCH_CHECK(queries_.scalar_type() == at::kFloat || queries_.scalar_type() == at::kDouble,
              "queries must be float32 or float64, got ", queries_.scalar_type());
  TORCH_CHECK(sample_.dim() == 1 && sample_.size(0) == queries_.size(0) && sample_.scalar_type() == at::kLong,
              "sample must be (M,) int64");
  TORCH_CHECK(indices_.dim() == 2 && indices_.size(1) == 4 && indices_.scalar_type() == at::kInt,
              "indices must be (V, 4) int32, got ", indices_.sizes(), " ", indices_.scalar_type());
  TORCH_CHECK(shape.size() == 3 && origin.size() == 3 && size.size() == 3, "a grid has three axes");
  TORCH_CHECK(reach >= 0 && reach <= kMaxReach, "reach must lie between 0 and ", kMaxReach, ", got ", reach);
  TORCH_CHECK(neighbours > 0 && radius >= 0, "neighbours must be positive and radius not negative");
  const Tensor queries = queries_.contiguous(), sample = sample_.contiguous();
  const Tensor indices = indices_.contiguous();
  Tensor out = at::full({queries.size(0), neighbours}, -1, sample.options());
  if (!queries.size(0)) return out;
  const CellIndex index(indices, samples, {shape[0], shape[1], shape[2]});
  const int64_t* whose = sample.const_data_ptr<int64_t>();
  int64_t* rows = out.mutable_data_ptr<int64_t>();
  with_type(queries, [&](auto zero) {
    using T = decltype(zero);
    Ball<T> ball;
    for (int axis = 0; axis < 3; axis++) {
      ball.origin[axis] = static_cast<T>(origin[axis]);
      ball.size[axis] = static_cast<T>(size[axis]);
      ball.cells[axis] = shape[2 - axis];
    }
    ball.reach = reach;
    ball.neighbours = neighbours;
    ball.radius_squared = static_cast<T>(radius) * static_cast<T>(radius);
    const T* places = queries.const_data_ptr<T>();
    at::parallel_for(0, queries.size(0), kGrain, [&](int64_t a, int64_t b) {
      for (int64_t m = a; m < b; m++) {
        TORCH_CHECK(whose[m] >= 0 && whose[m] < samples, "query ", m, " belongs to no sample");
        ball.query(index, places + 3 * m, whose[m], rows + neighbours * m);
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def(
      "voxel_query(Tensor queries, Tensor sample, Tensor indices, int[] shape, float[] origin, float[] size, "
      "int samples, int reach, float radius, int neighbours) -> Tensor");
}

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) { m.impl("voxel_query", focal::voxel_query); }
