// Memory for large results. Fresh memory costs more time than what is computed into it: the system clears
// every page at its first touch, 4 KiB at a time. So large blocks come in huge pages and, given back, wait
// for the next call.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/CPUAllocator.h>

#include <vector>

namespace focal {

// Blocks from here on are kept; smaller ones are torch's business.
constexpr size_t kKeptBytes = size_t{4} << 20;
// Most memory that waits for its next use; FOCALDISTILLER_KEPT_MB says otherwise, 0 keeps nothing.
constexpr size_t kMostKeptBytes = size_t{1} << 30;

at::Tensor fresh(at::IntArrayRef sizes, const at::TensorOptions& options);
at::Tensor fresh_zeros(at::IntArrayRef sizes, const at::TensorOptions& options);

// Working memory of a task.
c10::DataPtr fresh_bytes(size_t bytes);

// The allocator that torch had before any page was kept.
c10::Allocator* torch_allocator();

// Lets std::vector draw on torch's allocator, so that torch's profiler sees all that a call takes.
template <class T>
struct Counted {
  using value_type = T;
  Counted() = default;
  template <class U>
  Counted(const Counted<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(torch_allocator()->raw_allocate(count * sizeof(T))); }
  void deallocate(T* data, size_t) { torch_allocator()->raw_deallocate(data); }
  friend bool operator==(const Counted&, const Counted&) { return true; }
  friend bool operator!=(const Counted&, const Counted&) { return false; }
};

template <class T>
using Numbers = std::vector<T, Counted<T>>;

}  // namespace focal
