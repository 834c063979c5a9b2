// Schemas of the attention operators. `spatial_shapes` holds h, w of every level, one after the other.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def(
      "ms_deform_attn(Tensor value, int[] spatial_shapes, Tensor sampling_locations, Tensor "
      "attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_out, Tensor value, int[] spatial_shapes, Tensor "
      "sampling_locations, "
      "Tensor attention_weights) -> (Tensor, Tensor, Tensor)");
  m.def(
      "ms_deform_attn_fused(Tensor value, int[] spatial_shapes, Tensor sampling_offsets, Tensor "
      "attention_logits, "
      "Tensor reference_points) -> Tensor");
  m.def(
      "ms_deform_attn_fused_backward(Tensor grad_out, Tensor value, int[] spatial_shapes, Tensor "
      "sampling_offsets, "
      "Tensor attention_logits, Tensor reference_points, bool with_reference) -> (Tensor, Tensor, Tensor, "
      "Tensor)");
  m.def(
      "ms_deform_attn_packed(Tensor value, int[] spatial_shapes, Tensor sampling_offsets, Tensor "
      "attention_logits, "
      "Tensor reference_points, Tensor pair_value, Tensor pair_query) -> Tensor");
  m.def(
      "ms_deform_attn_packed_backward(Tensor grad_out, Tensor value, int[] spatial_shapes, Tensor "
      "sampling_offsets, "
      "Tensor attention_logits, Tensor reference_points, Tensor pair_value, Tensor pair_query, bool "
      "with_reference) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
}
