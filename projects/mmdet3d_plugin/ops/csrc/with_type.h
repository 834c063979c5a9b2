// The arithmetic of a tensor: float64 where the tensor is, float32 otherwise.
#pragma once
#include <ATen/core/Tensor.h>

namespace focal {

// Calls `body` with a zero of the tensor's type.
template <class Body>
inline void with_type(const at::Tensor& t, Body body) {
  if (t.scalar_type() == at::kDouble) body(double{});
  else body(float{});
}

}  // namespace focal
