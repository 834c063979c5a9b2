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

}  // namespace focal
