// Schemas of lift-splat pooling.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) {
  m.def(
      "lift_splat(Tensor depth, Tensor context, Tensor origin, Tensor ray, Tensor bins, int height, int "
      "width, "
      "bool truncate) -> Tensor");
  m.def(
      "lift_splat_backward(Tensor grad, Tensor depth, Tensor context, Tensor origin, Tensor ray, Tensor "
      "bins, "
      "bool truncate) -> (Tensor, Tensor)");
}
