// Sampling and grouping of points on CPU: furthest points, and the points around others. Clouds lie one below
// the other; each is copied to an array per axis, which vectors read.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "isa.h"
#include "point_sets_call.h"
#include "with_type.h"

namespace focal {
namespace {

using at::Tensor;
constexpr int64_t kRoom = 16;   // numbers of the widest vector
constexpr int64_t kGrain = 64;  // places that one task asks about

template <class T>
const PointSetKernels<T>& kernels() {
  return FOCAL_KERNELS(point_set_kernels<T>);
}

// The clouds of a batch, an array for each axis; every cloud begins a vector of its own.
template <class T>
class Clouds {
 public:
  Clouds(const Tensor& points, at::IntArrayRef counts) {
    const T* at = points.const_data_ptr<T>();
    for (const int64_t count : counts) {
      const int64_t stride = count + kRoom;
      std::vector<T>& plane = planes_.emplace_back(3 * stride, T(0));
      for (int64_t k = 0; k < count; k++, at += 3)
        for (int axis = 0; axis < 3; axis++) plane[axis * stride + k] = at[axis];
      counts_.push_back(count);
    }
  }

  PointPlanes<T> operator[](size_t cloud) const {
    const int64_t stride = counts_[cloud] + kRoom;
    const T* x = planes_[cloud].data();
    return {x, x + stride, x + 2 * stride, counts_[cloud]};
  }

 private:
  std::vector<std::vector<T>> planes_;
  std::vector<int64_t> counts_;
};

void check_places(const char* name, const Tensor& places, at::IntArrayRef counts) {
  TORCH_CHECK(places.dim() == 2 && places.size(1) == 3, name, " must be (N, 3), got ", places.sizes());
  TORCH_CHECK(places.scalar_type() == at::kFloat || places.scalar_type() == at::kDouble, name,
              " must be float32 or float64, got ", places.scalar_type());
  int64_t sum = 0;
  for (const int64_t count : counts) {
    TORCH_CHECK(count >= 0, "a cloud cannot have ", count, " points");
    sum += count;
  }
  TORCH_CHECK(sum == places.size(0), "the counts of ", name, " add up to ", sum, ", not to ", places.size(0));
}

// Where every cloud begins; one more entry for the end.
std::vector<int64_t> starts_of(at::IntArrayRef counts) {
  std::vector<int64_t> starts{0};
  for (const int64_t count : counts) starts.push_back(starts.back() + count);
  return starts;
}

Tensor furthest_points(const Tensor& points_, at::IntArrayRef counts, int64_t number) {
  check_places("points", points_, counts);
  TORCH_CHECK(number >= 0, "number must not be negative, got ", number);
  const Tensor points = points_.contiguous();
  std::vector<int64_t> wanted(counts.size());
  for (size_t b = 0; b < counts.size(); b++) wanted[b] = std::min(counts[b], number);
  const std::vector<int64_t> starts = starts_of(counts), first = starts_of(wanted);
  Tensor out = at::empty({first.back()}, points.options().dtype(at::kLong));
  int64_t* rows = out.mutable_data_ptr<int64_t>();
  with_type(points, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const Clouds<T> clouds(points, counts);
    at::parallel_for(0, counts.size(), 1, [&](int64_t a, int64_t e) {
      for (int64_t b = a; b < e; b++) {
        std::vector<T> nearest(counts[b] + kRoom);
        if (wanted[b]) kernel.furthest(clouds[b], wanted[b], nearest.data(), rows + first[b]);
        for (int64_t k = first[b]; k < first[b + 1]; k++) rows[k] += starts[b];
      }
    });
  });
  return out;
}

Tensor ball_query(const Tensor& queries_, const Tensor& points_, at::IntArrayRef query_counts,
                  at::IntArrayRef point_counts, double radius, int64_t neighbours) {
  check_places("queries", queries_, query_counts);
  check_places("points", points_, point_counts);
  TORCH_CHECK(query_counts.size() == point_counts.size(), "there are queries of ", query_counts.size(),
              " clouds and points of ", point_counts.size());
  TORCH_CHECK(queries_.scalar_type() == points_.scalar_type(), "queries are ", queries_.scalar_type(),
              " but points ", points_.scalar_type());
  TORCH_CHECK(neighbours > 0 && radius >= 0, "neighbours must be positive and radius not negative");
  const Tensor queries = queries_.contiguous(), points = points_.contiguous();
  Tensor out = at::full({queries.size(0), neighbours}, -1, queries.options().dtype(at::kLong));
  int64_t* rows = out.mutable_data_ptr<int64_t>();
  const std::vector<int64_t> asked = starts_of(query_counts), starts = starts_of(point_counts);
  with_type(queries, [&](auto zero) {
    using T = decltype(zero);
    const auto& kernel = kernels<T>();
    const Clouds<T> clouds(points, point_counts);
    const T* places = queries.const_data_ptr<T>();
    const T radius_squared = static_cast<T>(radius) * static_cast<T>(radius);
    for (size_t b = 0; b < query_counts.size(); b++) {
      const PointPlanes<T> cloud = clouds[b];
      at::parallel_for(asked[b], asked[b + 1], kGrain, [&](int64_t a, int64_t e) {
        for (int64_t m = a; m < e; m++) {
          int64_t* own = rows + m * neighbours;
          const int64_t found = kernel.near(cloud, places + 3 * m, radius_squared, neighbours, own);
          for (int64_t k = 0; k < found; k++) own[k] += starts[b];
        }
      });
    }
  });
  return out;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def("furthest_points(Tensor points, int[] counts, int number) -> Tensor");
  m.def(
      "ball_query(Tensor queries, Tensor points, int[] query_counts, int[] point_counts, float radius, int "
      "neighbours) -> Tensor");
}

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) {
  m.impl("furthest_points", focal::furthest_points);
  m.impl("ball_query", focal::ball_query);
}
