// The attention operators in terms of what a device offers: one forward and one backward for all doors.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

namespace focal {

// Where a door samples. With anchors (reference points), points are offsets in cells and weights are logits;
// without, they are locations and weights. With pairs, the rows of the call are (map, query) pairs. Else
// these are undefined.
struct Sampling {
  at::Tensor points, weights, anchors, pair_value, pair_query;
};

// In the types of the arithmetic; anchors are undefined unless asked for.
struct Gradients {
  at::Tensor value, points, weights, anchors;
};

using Forward = at::Tensor (*)(const at::Tensor& value, at::IntArrayRef shapes, const Sampling&);
using Backward = Gradients (*)(const at::Tensor& grad_out, const at::Tensor& value, at::IntArrayRef shapes,
                               const Sampling&, bool with_anchors);

template <Forward forward, Backward backward>
struct Doors {
  using Tensor = at::Tensor;
  using Shapes = at::IntArrayRef;
  using Three = std::tuple<Tensor, Tensor, Tensor>;
  using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

  static Tensor plain(const Tensor& value, Shapes shapes, const Tensor& locations, const Tensor& weights) {
    return forward(value, shapes, {locations, weights, {}, {}, {}});
  }

  static Three plain_backward(const Tensor& grad, const Tensor& value, Shapes shapes, const Tensor& locations,
                              const Tensor& weights) {
    const Gradients g = backward(grad, value, shapes, {locations, weights, {}, {}, {}}, false);
    return {g.value.to(value.scalar_type()), g.points.to(locations.scalar_type()),
            g.weights.to(weights.scalar_type())};
  }

  static Tensor fused(const Tensor& value, Shapes shapes, const Tensor& offsets, const Tensor& logits,
                      const Tensor& anchors) {
    return forward(value, shapes, {offsets, logits, anchors, {}, {}});
  }

  static Four fused_backward(const Tensor& grad, const Tensor& value, Shapes shapes, const Tensor& offsets,
                             const Tensor& logits, const Tensor& anchors, bool with_anchors) {
    return anchored_backward(grad, value, shapes, {offsets, logits, anchors, {}, {}}, with_anchors);
  }

  static Tensor packed(const Tensor& value, Shapes shapes, const Tensor& offsets, const Tensor& logits,
                       const Tensor& anchors, const Tensor& pair_value, const Tensor& pair_query) {
    return forward(value, shapes, {offsets, logits, anchors, pair_value, pair_query});
  }

  static Four packed_backward(const Tensor& grad, const Tensor& value, Shapes shapes, const Tensor& offsets,
                              const Tensor& logits, const Tensor& anchors, const Tensor& pair_value,
                              const Tensor& pair_query, bool with_anchors) {
    return anchored_backward(grad, value, shapes, {offsets, logits, anchors, pair_value, pair_query},
                             with_anchors);
  }

  static void register_in(torch::Library& library) {
    library.impl("ms_deform_attn", plain);
    library.impl("ms_deform_attn_backward", plain_backward);
    library.impl("ms_deform_attn_fused", fused);
    library.impl("ms_deform_attn_fused_backward", fused_backward);
    library.impl("ms_deform_attn_packed", packed);
    library.impl("ms_deform_attn_packed_backward", packed_backward);
  }

 private:
  static Four anchored_backward(const Tensor& grad, const Tensor& value, Shapes shapes, const Sampling& s,
                                bool with_anchors) {
    const Gradients g = backward(grad, value, shapes, s, with_anchors);
    const Tensor anchors = with_anchors ? g.anchors.view(s.anchors.sizes()).to(s.anchors.scalar_type())
                                        : at::empty({0}, s.anchors.options());
    return {g.value.to(value.scalar_type()), g.points.to(s.points.scalar_type()),
            g.weights.to(s.weights.scalar_type()), anchors};
  }
};

}  // namespace focal
