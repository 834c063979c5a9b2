// Hands out aligned pieces of one allocation. With a null base it only measures.
// Included inside namespace focal::FOCAL_ISA.

struct Arena {
  char* base;
  size_t used = 0;
  template <class U>
  U* take(size_t count) {
    U* piece = reinterpret_cast<U*>(base + used);
    used += (count * sizeof(U) + 63) / 64 * 64;
    return piece;
  }
};
