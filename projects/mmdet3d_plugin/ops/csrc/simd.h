// Vectors of the widest registers of the instruction set this translation unit is compiled for.
// Included inside namespace focal::FOCAL_ISA, so that every copy keeps its own symbols.

#if defined(__AVX512F__)
#define FOCAL_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define FOCAL_VECTOR_BYTES 32
#else
#define FOCAL_VECTOR_BYTES 16
#endif

#define FOCAL_INLINE static inline __attribute__((always_inline))

template <int N>
struct Constant {
  static constexpr int value = N;
};

template <class T>
struct Simd {
  typedef T Vec __attribute__((vector_size(FOCAL_VECTOR_BYTES), aligned(alignof(T)), may_alias));
  typedef int32_t Ints __attribute__((vector_size(FOCAL_VECTOR_BYTES), aligned(4), may_alias));
  static constexpr int width = FOCAL_VECTOR_BYTES / sizeof(T);
};

template <class T>
FOCAL_INLINE typename Simd<T>::Vec load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::Vec*>(p);
}

template <class T>
FOCAL_INLINE void store(T* p, typename Simd<T>::Vec v) {
  *reinterpret_cast<typename Simd<T>::Vec*>(p) = v;
}

// Writes past the caches: for outputs that do not fit them. `p` must be aligned to the vector.
template <class T>
FOCAL_INLINE void stream(T* p, typename Simd<T>::Vec v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), reinterpret_cast<__m512i>(v));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(v));
#else
  store(p, v);
#endif
}

// Makes streamed stores visible to the threads that read them next.
FOCAL_INLINE void stream_fence() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

FOCAL_INLINE float from_bfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, 4);
  return value;
}

// Round to nearest even; NaN stays NaN.
FOCAL_INLINE uint16_t to_bfloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value == value ? rounded : 0x7fc0u);
}

// exp for x <= 0 (and a little above): 2^k * p(r) with x = k ln2 + r, relative error about 1e-7 in float.
template <class T>
FOCAL_INLINE typename Simd<T>::Vec exponential_of(typename Simd<T>::Vec v) {
  using S = Simd<T>;
  if constexpr (sizeof(T) == 8) {
    for (int k = 0; k < S::width; k++) v[k] = __builtin_exp(v[k]);
    return v;
  } else {
    const typename S::Vec lowest = typename S::Vec{} - 87.f;
    v = v < lowest ? lowest : v;  // NaN passes
    const typename S::Ints k = __builtin_convertvector(v * 1.44269504f - 0.5f, typename S::Ints);
    const typename S::Vec kf = __builtin_convertvector(k, typename S::Vec);
    const typename S::Vec r = (v - kf * 0.693145751953125f) - kf * 1.42860682e-6f;
    typename S::Vec p = 1.f / 5040.f + r * (1.f / 40320.f);
    p = 1.f / 720.f + r * p;
    p = 1.f / 120.f + r * p;
    p = 1.f / 24.f + r * p;
    p = 1.f / 6.f + r * p;
    p = 0.5f + r * p;
    p = 1.f + r * (1.f + r * p);
    const typename S::Ints scale = (k + 127) << 23;
    return p * reinterpret_cast<typename S::Vec>(scale);
  }
}

template <class T>
FOCAL_INLINE void exponential(T* x, int count) {
  for (int j = 0; j < count; j += Simd<T>::width) store(x + j, exponential_of<T>(load(x + j)));
}

// Is each of `count` flags, 0 or 1, set?
FOCAL_INLINE bool all_set(const int32_t* flags, int count) {
  int j = 0;
#if defined(__AVX2__)
  for (; j + 8 <= count; j += 8) {
    const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(flags + j));
    if (!_mm256_testc_si256(eight, _mm256_set1_epi32(1))) return false;
  }
  if (j + 4 <= count) {
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(flags + j));
    if (!_mm_testc_si128(four, _mm_set1_epi32(1))) return false;
    j += 4;
  }
#endif
  for (; j < count; j++)
    if (!flags[j]) return false;
  return true;
}

// Lists those of first .. last - 1 whose flag is 1, not 0; `list` needs room for a vector more. Returns their
// number.
FOCAL_INLINE int list_flags(const int32_t* flags, int first, int last, int32_t* list) {
  int count = 0, j = first;
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; j + 16 <= last; j += 16) {
    const __m512i flag = _mm512_loadu_si512(flags + j);
    const __mmask16 set = _mm512_test_epi32_mask(flag, flag);
    _mm512_storeu_si512(list + count,
                        _mm512_maskz_compress_epi32(set, _mm512_add_epi32(lanes, _mm512_set1_epi32(j))));
    count += __builtin_popcount(set);
  }
#elif defined(__AVX2__)
  for (; j + 4 <= last; j += 4) {
    const __m128i flag = _mm_loadu_si128(reinterpret_cast<const __m128i*>(flags + j));
    if (_mm_movemask_epi8(_mm_cmpgt_epi32(flag, _mm_setzero_si128())) == 0xffff) {  // nearly always all
      _mm_storeu_si128(reinterpret_cast<__m128i*>(list + count),
                       _mm_add_epi32(_mm_setr_epi32(0, 1, 2, 3), _mm_set1_epi32(j)));
      count += 4;
      continue;
    }
    for (int k = j; k < j + 4; k++) {
      list[count] = k;
      count += flags[k];
    }
  }
#endif
  for (; j < last; j++) {
    list[count] = j;
    count += flags[j];
  }
  return count;
}

// Lane i of the result is lane i ^ X of the argument.
template <class T, int X, int... I>
FOCAL_INLINE typename Simd<T>::Vec swap_lanes(typename Simd<T>::Vec v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (I ^ X)...);
}

template <class T, int X>
FOCAL_INLINE typename Simd<T>::Vec swap_lanes(typename Simd<T>::Vec v) {
  return swap_lanes<T, X>(v, std::make_integer_sequence<int, Simd<T>::width>{});
}

// Combines every lane with the others of its group of N lanes (a power of two, at most a vector): all get the
// result.
template <class T, int N, class Op>
FOCAL_INLINE typename Simd<T>::Vec over_lanes(typename Simd<T>::Vec v, Op op) {
  if constexpr (N >= 2) v = op(v, swap_lanes<T, 1>(v));
  if constexpr (N >= 4) v = op(v, swap_lanes<T, 2>(v));
  if constexpr (N >= 8) v = op(v, swap_lanes<T, 4>(v));
  if constexpr (N >= 16) v = op(v, swap_lanes<T, 8>(v));
  return v;
}

// For groups of n consecutive numbers: spread[j] = op over the numbers of j's group.
template <class T, int N, class Op>
FOCAL_INLINE void over_groups_of(const T* x, T* spread, int groups, int n, Op op) {
  using S = Simd<T>;
  constexpr int lanes = N < S::width ? N : S::width;
  const int vectors = n > S::width ? n / S::width : 1;  // per group
  const int padded = (groups * n + S::width - 1) / S::width;
  for (int k = 0; k < padded; k += vectors) {
    typename S::Vec all = load(x + k * S::width);
    for (int u = 1; u < vectors; u++) all = op(all, load(x + (k + u) * S::width));
    all = over_lanes<T, lanes>(all, op);
    for (int u = 0; u < vectors; u++) store(spread + (k + u) * S::width, all);
  }
}

template <class T, class Op>
FOCAL_INLINE void over_groups(const T* x, T* spread, int groups, int n, Op op) {
  if (n == 4) return over_groups_of<T, 4>(x, spread, groups, n, op);
  if (n == 8) return over_groups_of<T, 8>(x, spread, groups, n, op);
  if (n % 16 == 0) return over_groups_of<T, 16>(x, spread, groups, n, op);
  for (int g = 0; g < groups; g++) {
    T all = x[g * n];
    for (int j = 1; j < n; j++) all = op(all, x[g * n + j]);
    for (int j = 0; j < n; j++) spread[g * n + j] = all;
  }
}

struct Larger {
  template <class V>
  V operator()(V a, V b) const {
    return b > a ? b : a;
  }
};

struct Sum {
  template <class V>
  V operator()(V a, V b) const {
    return a + b;
  }
};

// Sums of the lanes of four vectors, side by side.
template <class T>
FOCAL_INLINE void sum_lanes(typename Simd<T>::Vec a, typename Simd<T>::Vec b, typename Simd<T>::Vec c,
                            typename Simd<T>::Vec d, T* sums) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __m512 ab =
        _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    const __m512 cd =
        _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d), _mm512_unpackhi_ps((__m512)c, (__m512)d));
    const __m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), (__m256)_mm512_extractf64x4_pd((__m512d)abcd, 1));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    return;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const __m256 ab =
        _mm256_add_ps(_mm256_unpacklo_ps((__m256)a, (__m256)b), _mm256_unpackhi_ps((__m256)a, (__m256)b));
    const __m256 cd =
        _mm256_add_ps(_mm256_unpacklo_ps((__m256)c, (__m256)d), _mm256_unpackhi_ps((__m256)c, (__m256)d));
    const __m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
    return;
  }
#endif
  const typename Simd<T>::Vec four[4] = {a, b, c, d};
  for (int i = 0; i < 4; i++) {
    T sum = 0;
    for (int k = 0; k < Simd<T>::width; k++) sum += four[i][k];
    sums[i] = sum;
  }
}
