// Fresh memory of many megabytes costs a page fault every 4 KiB unless it may come in huge pages.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace focal {

inline void advise_huge(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr size_t kPage = size_t{2} << 20;
  if (bytes < 2 * kPage) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

// Large memory that the system hands out as zeros, so that nobody has to write them; null where there is none to be
// had. To be given back with unmap_zeros.
inline void* map_zeros(size_t bytes) {
#if defined(__linux__)
  if (bytes < size_t{4} << 20) return nullptr;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  advise_huge(data, bytes);
  return data;
#else
  (void)bytes;
  return nullptr;
#endif
}

inline void unmap_zeros(void* data, size_t bytes) {
#if defined(__linux__)
  munmap(data, bytes);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace focal
