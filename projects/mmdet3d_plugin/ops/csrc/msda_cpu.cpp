// CPU side of the attention operators: checks, the order of the rows, and the tasks handed to the kernels.
// Which thread computes a task never changes what it computes, so results are equal for any number of
// threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "isa.h"
#include "msda_call.h"
#include "msda_doors.h"
#include "pages.h"

namespace focal {
namespace {

using at::Tensor;

// ------------------------------------------------------------------------------------------------- kernels

template <class T>
const Kernels<T>& kernels() {
  return FOCAL_KERNELS(kernels<T>);
}

// ------------------------------------------------------------------------------------------------- inputs

// The inputs of one operator in the form the kernels take: contiguous, sampling in the type of the
// arithmetic.
struct Inputs {
  Tensor value, points, weights, anchors;
  std::vector<Level> levels;
  std::vector<int64_t> row_begin;
  Numbers<int32_t> order, centre, row_query;
  std::vector<Group> groups;
  Walk walk = kForwardWalk;
  bool shared = false;  // rows are pairs: several may name one query
  int64_t queries = 0;
  at::ScalarType compute = at::kFloat;
  at::ScalarType value_type = at::kFloat;
};

std::vector<Level> read_levels(at::IntArrayRef shapes, int64_t cells) {
  TORCH_CHECK(shapes.size() % 2 == 0 && !shapes.empty(), "spatial_shapes must hold h and w of every level");
  std::vector<Level> levels;
  int64_t start = 0;
  for (size_t l = 0; l < shapes.size(); l += 2) {
    TORCH_CHECK(shapes[l] > 0 && shapes[l + 1] > 0, "spatial_shapes: level ", l / 2, " is empty");
    levels.push_back(
        {static_cast<int32_t>(shapes[l]), static_cast<int32_t>(shapes[l + 1]), static_cast<int32_t>(start)});
    start += shapes[l] * shapes[l + 1];
  }
  TORCH_CHECK(start == cells, "value has ", cells, " cells but spatial_shapes describe ", start);
  TORCH_CHECK(start < (int64_t{1} << 30), "value has too many cells per map: ", start);
  return levels;
}

void check_sampling(const Tensor& value, const Tensor& points, const Tensor& weights, size_t levels) {
  TORCH_CHECK(value.dim() == 4, "value must be (B, S, M, D), got ", value.sizes());
  TORCH_CHECK(points.dim() == 6 && points.size(5) == 2, "sampling points must be (B, Q, M, L, P, 2), got ",
              points.sizes());
  TORCH_CHECK(points.size(2) == value.size(2), "value has ", value.size(2), " heads but the sampling points ",
              points.size(2));
  TORCH_CHECK(points.size(3) == static_cast<int64_t>(levels), "the sampling points have ", points.size(3),
              " levels, spatial_shapes ", levels);
  TORCH_CHECK(weights.dim() >= 4 && weights.sizes().slice(0, 3) == points.sizes().slice(0, 3) &&
                  weights.numel() * 2 == points.numel(),
              "weights ", weights.sizes(), " do not match the points ", points.sizes());
  TORCH_CHECK(points.size(3) * points.size(4) <= kBlock, "at most ", kBlock, " points per head, got ",
              points.size(3), " levels of ", points.size(4));
  TORCH_CHECK(points.size(4) > 0 && value.size(3) > 0, "needs at least one point and one channel");
}

// Batch, query and head may lie anywhere, what belongs to one head must be contiguous.
Tensor with_dense_tail(const Tensor& t) {
  int64_t step = 1;
  for (int64_t d = t.dim() - 1; d > 2; d--) {
    if (t.size(d) != 1 && t.stride(d) != step) return t.contiguous();
    step *= t.size(d);
  }
  return t;
}

// ------------------------------------------------------------------------------------------------- row order

// Of a (B, Q, M, ...) tensor whose dimensions beyond M are contiguous.
Steps steps_of(const Tensor& t) { return {t.stride(0) - t.size(1) * t.stride(1), t.stride(1), t.stride(2)}; }

// A point that stands for the row: the mean of its anchors, or of the first location of every head.
template <class T>
std::pair<T, T> representative(const Inputs& in, int64_t map, int64_t row) {
  const bool anchored = in.anchors.defined();
  const Steps steps = anchored ? Steps{0, in.anchors.size(-2) * 2, 2} : steps_of(in.points);
  const int64_t count = anchored ? in.anchors.size(-2) : in.points.size(2);
  const T* at = (anchored ? in.anchors : in.points).const_data_ptr<T>() + map * steps.map + row * steps.query;
  T x = 0, y = 0;
  for (int64_t k = 0; k < count; k++, at += steps.head) {
    x += at[0];
    y += at[1];
  }
  return {x / count, y / count};
}

template <class T>
int32_t cell_of(T at, int32_t cells) {  // NaN: the first cell
  const T position = at * cells;
  return position > 0 ? static_cast<int32_t>(std::min<T>(position, cells - 1)) : 0;
}

// Orders rows [first, last) by the tile of level 0 they look at (stable counting sort), so that consecutive
// rows meet the same cells in the nearest caches.
template <class T>
void order_rows(Inputs& in, int64_t map) {
  const int64_t first = in.row_begin[map], last = in.row_begin[map + 1];
  const Level level = in.levels[0];
  const int32_t across = ((level.width - 1) >> in.walk.tile_bits) + 1,
                down = ((level.height - 1) >> in.walk.tile_bits) + 1;
  Numbers<int32_t> centre(last - first), tile(last - first), begin(across * down + 1, 0);
  // A pillar stands upright in an image: tiles above each other meet the same cells of a pyramid.
  const int32_t step_x = in.levels.size() > 1 ? down : 1, step_y = in.levels.size() > 1 ? 1 : across;
  for (int64_t row = first; row < last; row++) {
    const auto [x, y] = representative<T>(in, map, row);
    const int32_t cy = cell_of(y, level.height), cx = cell_of(x, level.width);
    centre[row - first] = cy << 16 | cx;
    tile[row - first] = (cy >> in.walk.tile_bits) * step_y + (cx >> in.walk.tile_bits) * step_x;
    begin[tile[row - first] + 1]++;
  }
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  for (int64_t row = first; row < last; row++) {
    const int64_t place = first + begin[tile[row - first]]++;
    in.order[place] = static_cast<int32_t>(row);
    in.centre[place] = centre[row - first];
  }
}

void order_all(Inputs& in) {
  const int64_t maps = in.value.size(0);
  TORCH_CHECK(in.row_begin[maps] < (int64_t{1} << 31), "too many rows for one call: ", in.row_begin[maps]);
  in.order.resize(in.row_begin[maps]);
  std::iota(in.order.begin(), in.order.end(), 0);
  const Level level = in.levels[0];
  if (level.width > 0x7fff || level.height > 0x7fff) return;
  in.centre.resize(in.order.size());
  at::parallel_for(0, maps, 1, [&](int64_t a, int64_t b) {
    for (int64_t v = a; v < b; v++) {
      if (in.compute == at::kDouble) order_rows<double>(in, v);
      else order_rows<float>(in, v);
    }
  });
}

// One row per query: map b serves the queries of batch element b.
void rows_per_batch(Inputs& in) {
  const int64_t maps = in.value.size(0), queries = in.points.size(1);
  TORCH_CHECK(in.points.size(0) == maps, "value has batch ", maps, " but the sampling points ",
              in.points.size(0));
  TORCH_CHECK(!in.anchors.defined() ||
                  (in.anchors.dim() == 4 && in.anchors.size(0) == maps && in.anchors.size(1) == queries &&
                   in.anchors.size(2) > 0 && in.anchors.size(3) == 2),
              "reference_points must be (B, Q, R, 2), got ", in.anchors.sizes());
  for (int64_t v = 0; v <= maps; v++) in.row_begin.push_back(v * queries);
  for (int64_t v = 0; v < maps; v++) in.groups.push_back({v, v + 1});
  order_all(in);
}

// Maps that share queries must be computed in one task. A cut between two maps is possible where all queries
// before it lie below all queries after it.
void group_maps(Inputs& in) {
  const int64_t maps = in.value.size(0);
  Numbers<int64_t> lowest_from(maps + 1, in.queries);
  for (int64_t v = maps - 1; v >= 0; v--) {
    lowest_from[v] = lowest_from[v + 1];
    for (int64_t k = in.row_begin[v]; k < in.row_begin[v + 1]; k++) {
      lowest_from[v] = std::min<int64_t>(lowest_from[v], in.row_query[k]);
    }
  }
  int64_t highest = -1, map_begin = 0;
  for (int64_t v = 0; v < maps; v++) {
    for (int64_t k = in.row_begin[v]; k < in.row_begin[v + 1]; k++)
      highest = std::max<int64_t>(highest, in.row_query[k]);
    if (v + 1 < maps && highest >= lowest_from[v + 1]) continue;
    in.groups.push_back({map_begin, v + 1});
    map_begin = v + 1;
  }
}

// One row per pair.
void rows_per_pair(Inputs& in, const Tensor& pair_value, const Tensor& pair_query) {
  const int64_t maps = in.value.size(0), pairs = pair_value.numel();
  TORCH_CHECK(pair_value.scalar_type() == at::kLong && pair_value.dim() == 1,
              "pair_value must be (K,) int64");
  TORCH_CHECK(pair_query.scalar_type() == at::kLong && pair_query.sizes() == pair_value.sizes(),
              "pair_query must be (K,) int64");
  TORCH_CHECK(in.anchors.dim() == 3 && in.anchors.size(0) == pairs && in.anchors.size(1) > 0 &&
                  in.anchors.size(2) == 2,
              "reference_points must be (K, R, 2) with K = ", pairs, ", got ", in.anchors.sizes());
  const Tensor values = pair_value.contiguous(), queries = pair_query.contiguous();
  const int64_t *v = values.const_data_ptr<int64_t>(), *q = queries.const_data_ptr<int64_t>();
  in.shared = true;
  in.points = in.points.contiguous();
  in.weights = in.weights.contiguous();
  in.row_begin.assign(maps + 1, 0);
  in.row_query.resize(pairs);
  for (int64_t k = 0; k < pairs; k++) {
    TORCH_CHECK(v[k] >= 0 && v[k] < maps, "pair_value[", k, "] = ", v[k], " is not a map of value");
    TORCH_CHECK(k == 0 || v[k] >= v[k - 1], "pair_value must be sorted");
    TORCH_CHECK(q[k] >= 0 && q[k] < in.queries, "pair_query[", k, "] = ", q[k], " is not a query");
    in.row_begin[v[k] + 1]++;
    in.row_query[k] = static_cast<int32_t>(q[k]);
  }
  std::partial_sum(in.row_begin.begin(), in.row_begin.end(), in.row_begin.begin());
  group_maps(in);
  order_all(in);
}

Inputs read_inputs(const Tensor& value, at::IntArrayRef shapes, const Sampling& sampling, Walk walk) {
  check_sampling(value, sampling.points, sampling.weights, shapes.size() / 2);
  Inputs in;
  in.walk = walk;
  in.value_type = value.scalar_type();
  TORCH_CHECK(at::isFloatingType(in.value_type), "value must be floating point, got ", in.value_type);
  in.compute = in.value_type == at::kDouble ? at::kDouble : at::kFloat;
  in.value = (in.value_type == at::kHalf ? value.to(at::kFloat) : value).contiguous();
  in.points = with_dense_tail(sampling.points.to(in.compute));
  in.weights = with_dense_tail(sampling.weights.to(in.compute));
  if (sampling.anchors.defined()) in.anchors = sampling.anchors.to(in.compute).contiguous();
  in.levels = read_levels(shapes, value.size(1));
  in.queries = in.points.size(0) * in.points.size(1);
  if (sampling.pair_value.defined()) rows_per_pair(in, sampling.pair_value, sampling.pair_query);
  else rows_per_batch(in);
  return in;
}

// ------------------------------------------------------------------------------------------------- tasks

template <class T>
Call<T> make_call(const Inputs& in) {
  Call<T> call;
  call.value = in.value.const_data_ptr();
  call.bfloat16 = in.value.scalar_type() == at::kBFloat16;
  call.maps = in.value.size(0);
  call.cells = in.value.size(1);
  call.heads = in.value.size(2);
  call.channels = in.value.size(3);
  call.levels = in.levels.data();
  call.num_levels = static_cast<int32_t>(in.levels.size());
  call.num_points = static_cast<int32_t>(in.points.size(4));
  call.order = in.order.data();
  call.centre = in.centre.empty() || in.levels.size() > 1 ? nullptr : in.centre.data();
  call.row_begin = in.row_begin.data();
  call.row_query = in.shared ? in.row_query.data() : nullptr;
  call.shared = in.shared;
  call.points = in.points.const_data_ptr<T>();
  call.weights = in.weights.const_data_ptr<T>();
  const int64_t n = call.num_levels * call.num_points;
  // Queries of pairs count through all batch elements, whichever map the pair names.
  call.points_at = in.shared ? Steps{0, call.heads * n * 2, n * 2} : steps_of(in.points);
  call.weights_at = in.shared ? Steps{0, call.heads * n, n} : steps_of(in.weights);
  if (in.anchors.defined()) {
    call.anchors = in.anchors.const_data_ptr<T>();
    call.num_anchors = static_cast<int32_t>(in.anchors.size(-2));
  }
  return call;
}

// Gathering in place pays when few corners are read per cell, and on a single level, where the cells of the
// next rows can be fetched ahead; otherwise a dense copy of the slice does.
template <class T>
bool gathers_directly(const Call<T>& call, int width, const Walk& walk) {
  const int64_t points = call.num_levels * call.num_points, corners = call.row_begin[call.maps] * points * 4;
  const bool able = !call.bfloat16 && !call.shared && call.channels % width == 0 &&
                    call.heads * points <= kBlock &&
                    call.cells * call.heads * call.channels < (int64_t{1} << 31);
  return able && corners < (call.num_levels == 1 ? walk.corners : 4) * call.maps * call.cells;
}

template <class T>
void run_forward(const Call<T>& call, const std::vector<Group>& groups) {
  const Kernels<T>& kernel = kernels<T>();
  if (gathers_directly(call, kernel.width, kForwardWalk)) {
    const int64_t rows = call.row_begin[1], chunks = (rows + kForwardWalk.chunk - 1) / kForwardWalk.chunk;
    at::parallel_for(0, call.maps * chunks, 1, [&](int64_t a, int64_t b) {
      const c10::DataPtr scratch = fresh_bytes(kernel.direct_bytes(call));
      for (int64_t task = a; task < b;) {  // consecutive chunks of one map go together
        const int64_t map = task / chunks, end = std::min(b, (map + 1) * chunks);
        const int64_t first = map * rows + task % chunks * kForwardWalk.chunk;
        const int64_t last = std::min(first + (end - task) * kForwardWalk.chunk, (map + 1) * rows);
        kernel.forward_direct(call, map, first, last, static_cast<char*>(scratch.get()));
        task = end;
      }
    });
    return;
  }
  // Two heads lie in one stretch of memory; take them together where that leaves work for every thread.
  const int64_t heads =
      call.heads % 2 == 0 && groups.size() * call.heads / 2 >= static_cast<size_t>(at::get_num_threads()) ? 2
                                                                                                          : 1;
  const int64_t tasks = call.heads / heads;
  at::parallel_for(0, groups.size() * tasks, 1, [&](int64_t a, int64_t b) {
    const c10::DataPtr scratch = fresh_bytes(kernel.slice_bytes(call, heads, false));
    for (int64_t task = a; task < b; task++) {
      kernel.forward_slice(call, groups[task / tasks], task % tasks * heads, heads,
                           static_cast<char*>(scratch.get()));
    }
  });
}

template <class T>
void run_backward(const Call<T>& call, const std::vector<Group>& groups) {
  const Kernels<T>& kernel = kernels<T>();
  if (gathers_directly(call, kernel.width, kBackwardWalk)) {
    at::parallel_for(0, call.maps * call.heads, 1, [&](int64_t a, int64_t b) {
      const c10::DataPtr scratch = fresh_bytes(kernel.direct_bytes(call));
      for (int64_t task = a; task < b;) {  // consecutive heads of one map go together
        const int64_t map = task / call.heads, end = std::min(b, (map + 1) * call.heads);
        kernel.backward_direct(call, map, task - map * call.heads, end - map * call.heads,
                               static_cast<char*>(scratch.get()));
        task = end;
      }
    });
    return;
  }
  at::parallel_for(0, groups.size() * call.heads, 1, [&](int64_t a, int64_t b) {
    const c10::DataPtr scratch = fresh_bytes(kernel.slice_bytes(call, 2, true));
    for (int64_t task = a; task < b; task++)
      kernel.backward_slice(call, groups[task / call.heads], task % call.heads,
                            static_cast<char*>(scratch.get()));
  });
}

template <class Body>
void with_type(at::ScalarType type, Body body) {
  if (type == at::kDouble) body(double{});
  else body(float{});
}

Tensor forward(const Tensor& value, at::IntArrayRef shapes, const Sampling& sampling) {
  const Inputs in = read_inputs(value, shapes, sampling, kForwardWalk);
  const std::array<int64_t, 3> sizes = {in.points.size(0), in.points.size(1), value.size(2) * value.size(3)};
  // Results that add up do so in the type of the arithmetic.
  Tensor out =
      in.shared ? fresh_zeros(sizes, in.value.options().dtype(in.compute)) : fresh(sizes, in.value.options());
  if (out.numel() == 0) return out;
  if (in.value.size(0) == 0 || in.value.size(1) == 0) return out.zero_();
  with_type(in.compute, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call = make_call<T>(in);
    call.out = out.data_ptr();
    call.out_bytes = out.nbytes();
    run_forward(call, in.groups);
  });
  return out.to(in.value_type);
}

bool adds_in_place(const Inputs& in) {
  bool direct = false;
  with_type(in.compute, [&](auto zero) {
    direct = gathers_directly(make_call<decltype(zero)>(in), kernels<decltype(zero)>().width, kBackwardWalk);
  });
  return direct;
}

Gradients backward(const Tensor& grad_out, const Tensor& value, at::IntArrayRef shapes,
                   const Sampling& sampling, bool with_anchors) {
  const bool single = shapes.size() == 2;  // pyramids are computed in slices, small enough for the cache
  const Inputs in = read_inputs(value, shapes, sampling, single ? kBackwardWalk : kForwardWalk);
  Gradients g;
  // Slice kernels write every gradient once; all others add to it, as do rows that share a query.
  g.value = adds_in_place(in) ? fresh_zeros(in.value.sizes(), in.value.options())
                              : fresh(in.value.sizes(), in.value.options());
  g.points = in.shared ? fresh_zeros(in.points.sizes(), in.points.options())
                       : fresh(in.points.sizes(), in.points.options());
  g.weights = in.shared ? fresh_zeros(in.weights.sizes(), in.weights.options())
                        : fresh(in.weights.sizes(), in.weights.options());
  const int64_t rows = in.row_begin.back(), heads = in.value.size(2),
                anchors = in.anchors.defined() ? in.anchors.size(-2) : 0;
  if (with_anchors) g.anchors = at::zeros({rows, heads, anchors, 2}, in.anchors.options());
  if (g.value.numel() == 0) return g;
  TORCH_CHECK(grad_out.numel() == in.points.size(0) * in.points.size(1) * in.value.size(2) * in.value.size(3),
              "grad_out does not match the output, got ", grad_out.sizes());
  const Tensor grad = grad_out.to(in.value.scalar_type()).contiguous();
  with_type(in.compute, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call = make_call<T>(in);
    call.grad_out = grad.const_data_ptr();
    call.grad_value = g.value.data_ptr();
    call.grad_points = g.points.template mutable_data_ptr<T>();
    call.grad_weights = g.weights.template mutable_data_ptr<T>();
    if (with_anchors) call.grad_anchors = g.anchors.template mutable_data_ptr<T>();
    run_backward(call, in.groups);
  });
  if (with_anchors) g.anchors = g.anchors.sum(1);
  return g;
}

}  // namespace
}  // namespace focal

TORCH_LIBRARY_IMPL(focaldistiller, CPU, m) { focal::Doors<focal::forward, focal::backward>::register_in(m); }
