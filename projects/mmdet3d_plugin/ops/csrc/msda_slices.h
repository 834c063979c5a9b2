// Slices: single heads of a map in dense buffers, and numbers to and from their storage.
// Included by msda_kernels.h, once per instruction set.

template <class T>
static int64_t padded_channels(const Call<T>& call) {
  return (call.channels + Simd<T>::width - 1) / Simd<T>::width * Simd<T>::width;
}

// `count` stored numbers (T or bfloat16) at element `at` of `storage` -> to[count]; zeros up to `padded`.
template <class T>
FOCAL_INLINE void widen(const void* storage, bool bfloat16, int64_t at, int64_t count, int64_t padded,
                        T* to) {
  if (bfloat16) {
    const uint16_t* from = static_cast<const uint16_t*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from_bfloat16(from[c]);
  } else {
    const T* from = static_cast<const T*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from[c];
  }
  for (int64_t c = count; c < padded; c++) to[c] = 0;
}

template <class T>
FOCAL_INLINE void narrow(const T* from, int64_t count, void* storage, bool bfloat16, int64_t at) {
  if (bfloat16) {
    uint16_t* to = static_cast<uint16_t*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = to_bfloat16(static_cast<float>(from[c]));
  } else {
    T* to = static_cast<T*>(storage) + at;
    for (int64_t c = 0; c < count; c++) to[c] = from[c];
  }
}

// Is a head of the stored tensor a whole number of vectors of T?
template <class T>
FOCAL_INLINE bool is_native(const Call<T>& call) {
  return !call.bfloat16 && call.channels % Simd<T>::width == 0;
}

// Outputs beyond this size are written past the caches.
constexpr int64_t kStreamBytes = 8 << 20;

template <class T>
static bool is_streamed(const Call<T>& call) {
  return call.out_bytes > kStreamBytes && reinterpret_cast<uintptr_t>(call.out) % FOCAL_VECTOR_BYTES == 0;
}

// Some heads of `count` consecutive cells of a (.., heads, channels) tensor -> to[heads][count + 1][padded];
// the last cell of each head is empty.
template <class T>
static void pack_heads(const Call<T>& call, const void* storage, int64_t first, int64_t count, int64_t head,
                       int heads, T* to) {
  const int64_t channels = call.channels, padded = padded_channels(call), step = call.heads * channels;
  const int64_t at = (first * call.heads + head) * channels, size = (count + 1) * padded;
  for (int m = 0; m < heads; m++)
    for (int64_t c = 0; c < padded; c++) to[m * size + count * padded + c] = 0;
  if (!is_native(call)) {
    for (int64_t s = 0; s < count; s++) {
      for (int m = 0; m < heads; m++) {
        widen(storage, call.bfloat16, at + s * step + m * channels, channels, padded,
              to + m * size + s * padded);
      }
    }
    return;
  }
  constexpr int64_t kCellsAhead = 16;
  const T* from = static_cast<const T*>(storage) + at;
  for (int64_t s = 0; s < count; s++, from += step) {
    for (int64_t c = 0; c < heads * channels; c += 64 / sizeof(T))
      __builtin_prefetch(from + kCellsAhead * step + c);
    for (int m = 0; m < heads; m++) {
      for (int64_t c = 0; c < channels; c += Simd<T>::width) {
        store(to + m * size + s * channels + c, load(from + m * channels + c));
      }
    }
  }
}

template <class T>
static void unpack_head(const Call<T>& call, const T* from, int64_t first, int64_t count, int64_t head,
                        void* storage) {
  const int64_t channels = call.channels, padded = padded_channels(call), step = call.heads * channels;
  const int64_t at = (first * call.heads + head) * channels;
  if (!is_native(call) || reinterpret_cast<uintptr_t>(storage) % FOCAL_VECTOR_BYTES) {
    for (int64_t s = 0; s < count; s++)
      narrow(from + s * padded, channels, storage, call.bfloat16, at + s * step);
    return;
  }
  T* to = static_cast<T*>(storage) + at;
  for (int64_t s = 0; s < count; s++) {
    for (int64_t c = 0; c < channels; c += Simd<T>::width)
      stream(to + s * step + c, load(from + s * channels + c));
  }
  stream_fence();
}
