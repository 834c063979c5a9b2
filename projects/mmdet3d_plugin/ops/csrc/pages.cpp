#include "pages.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>
#include <torch/library.h>

#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>

#if defined(__linux__)
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace focal {
namespace {

#if defined(__linux__)

constexpr size_t kPage = size_t{2} << 20;

// Whole huge pages, cleared by the system; null where there is none to be had.
void* map_pages(size_t bytes) {
  void* data = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(data);
  char* const aligned = begin + (kPage - reinterpret_cast<uintptr_t>(begin) % kPage) % kPage;
  if (aligned > begin) munmap(begin, aligned - begin);
  if (begin + kPage > aligned) munmap(aligned + bytes, begin + kPage - aligned);
  madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

struct Block {
  void* data;
  size_t bytes;
  bool cleared;      // has never been used
  size_t asked = 0;  // what its present user wants of it
};

class Store {
 public:
  // Of the blocks that fit without wasting more than a quarter, the smallest; among equals, the last given.
  Block take(size_t bytes) {
    const size_t whole = (bytes + kPage - 1) / kPage * kPage;
    const std::lock_guard<std::mutex> guard(mutex_);
    auto best = kept_.end();
    for (auto block = kept_.begin(); block != kept_.end(); block++) {
      const bool fits = block->bytes >= whole && block->bytes <= whole + whole / 4;
      if (fits && (best == kept_.end() || block->bytes <= best->bytes)) best = block;
    }
    Block block{nullptr, whole, true};
    if (best != kept_.end()) {
      block = *best;
      kept_.erase(best);
      kept_bytes_ -= block.bytes;
    } else {
      block.data = map_pages(whole);
    }
    block.asked = bytes;
    if (block.data) lent_[block.data] = block;
    return block;
  }

  // Takes back the block at `data`, if it is one of the store's, and says what it was; the oldest blocks make
  // room.
  Block give(void* data) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto lent = lent_.find(data);
    if (lent == lent_.end()) return {nullptr, 0, false};
    Block block = lent->second;
    lent_.erase(lent);
    block.cleared = false;
    kept_.push_back(block);
    kept_bytes_ += block.bytes;
    while (kept_bytes_ > most_) {
      munmap(kept_.front().data, kept_.front().bytes);
      kept_bytes_ -= kept_.front().bytes;
      kept_.erase(kept_.begin());
    }
    return block;
  }

  // Never destroyed: tensors may outlive every static object.
  static Store& get() {
    static Store* const store = new Store;
    return *store;
  }

 private:
  static size_t most() {
    const char* megabytes = std::getenv("FOCALDISTILLER_KEPT_MB");
    return megabytes ? std::strtoull(megabytes, nullptr, 10) << 20 : kMostKeptBytes;
  }

  std::mutex mutex_;
  std::vector<Block> kept_;
  std::unordered_map<void*, Block> lent_;
  size_t kept_bytes_ = 0;
  const size_t most_ = most();
};

// torch's own allocator with large blocks from the store.
class Pages final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes >= kKeptBytes) {
      const Block block = Store::get().take(bytes);
      if (block.data) return hand_out(block);
    }
    cleared_ = false;
    return torch_allocator()->allocate(bytes);
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  // Frees memory of the store or of torch's allocator.
  static void give_back(void* data) {
    const Block block = Store::get().give(data);
    if (block.data) report(data, -static_cast<int64_t>(block.asked));
    else torch_allocator()->raw_deallocate(data);
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  // Was the block that this thread got last cleared by the system?
  static bool cleared() { return cleared_; }

 private:
  // Torch frees some memory by its address alone (Allocator::raw_deallocate), so nothing else tells blocks
  // apart.
  static c10::DataPtr hand_out(const Block& block) {
    cleared_ = block.cleared;
    report(block.data, static_cast<int64_t>(block.asked));
    return {block.data, block.data, &give_back, at::kCPU};
  }

  static void report(void* data, int64_t bytes) {
    if (c10::memoryProfilingEnabled()) c10::reportMemoryUsageToProfiler(data, bytes, 0, 0, at::kCPU);
  }

  static thread_local bool cleared_;
};

thread_local bool Pages::cleared_ = false;

Pages& pages() {
  static Pages* const pages = new Pages;
  return *pages;
}

// What torch asks once keep_pages was called: large blocks come from the store while the calling thread keeps
// pages.
class Switch final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (keeps && bytes >= kKeptBytes) return pages().allocate(bytes);
    return torch_allocator()->allocate(bytes);
  }

  c10::DeleterFnPtr raw_deleter() const override { return pages().raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  static thread_local bool keeps;
};

thread_local bool Switch::keeps = false;

at::Tensor from_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::detail::empty_generic(sizes, &pages(), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                   c10::typeMetaToScalarType(options.dtype()), std::nullopt);
}

#endif

bool is_large(at::IntArrayRef sizes, const at::TensorOptions& options) {
#if defined(__linux__)
  return c10::multiply_integers(sizes) * options.dtype().itemsize() >= kKeptBytes;
#else
  return false;
#endif
}

}  // namespace

at::Tensor fresh(at::IntArrayRef sizes, const at::TensorOptions& options) {
#if defined(__linux__)
  if (is_large(sizes, options)) return from_pages(sizes, options);
#endif
  return at::empty(sizes, options);
}

at::Tensor fresh_zeros(at::IntArrayRef sizes, const at::TensorOptions& options) {
#if defined(__linux__)
  if (is_large(sizes, options)) {
    at::Tensor t = from_pages(sizes, options);
    return Pages::cleared() ? t : t.zero_();
  }
#endif
  return at::zeros(sizes, options);
}

c10::DataPtr fresh_bytes(size_t bytes) {
#if defined(__linux__)
  return pages().allocate(bytes);
#else
  return torch_allocator()->allocate(bytes);
#endif
}

c10::Allocator* torch_allocator() {
  static c10::Allocator* const first = c10::GetCPUAllocator();
  return first;
}

// Lets this thread's tensors keep their pages, or not; returns what was before.
bool keep_pages(bool on) {
#if defined(__linux__)
  static Switch* const instead = [] {
    torch_allocator();
    auto* made = new Switch;
    c10::SetCPUAllocator(made);
    pthread_atfork(nullptr, nullptr,
                   [] { Switch::keeps = false; });  // the workers of a loader gain nothing by it
    return made;
  }();
  (void)instead;
  return std::exchange(Switch::keeps, on);
#else
  return false;
#endif
}

}  // namespace focal

TORCH_LIBRARY_FRAGMENT(focaldistiller, m) { m.def("keep_pages(bool on) -> bool", &focal::keep_pages); }
