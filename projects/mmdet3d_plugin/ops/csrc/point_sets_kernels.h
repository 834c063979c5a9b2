// Sampling and grouping of the points of one cloud on one core. Compiled once per instruction set inside
// namespace focal::FOCAL_ISA.

constexpr int kPointBlock = 128;  // points looked at before the hits among them are listed

template <class T>
FOCAL_INLINE T squared_distance(const PointPlanes<T>& points, int64_t row, const T* place) {
  const T x = points.x[row] - place[0], y = points.y[row] - place[1], z = points.z[row] - place[2];
  return x * x + y * y + z * z;
}

// One pass over the cloud: `nearest` comes to regard the point at `place`; returns the row whose distance is
// largest, the first of equals. A distance that is not a number is passed over.
template <class T>
FOCAL_INLINE int64_t update_nearest(const PointPlanes<T>& points, const T* place, T* nearest) {
  using S = Simd<T>;
  using Vec = typename S::Vec;
  using Mask = decltype(Vec{} > Vec{});
  const Vec px = Vec{} + place[0], py = Vec{} + place[1], pz = Vec{} + place[2];
  Vec best = Vec{} - T(2);
  Mask at{}, block{};
  for (int64_t k = 0; k < points.count; k += S::width, block += 1) {
    const Vec x = load(points.x + k) - px, y = load(points.y + k) - py, z = load(points.z + k) - pz;
    const Vec far = x * x + y * y + z * z, before = load(nearest + k);
    const Vec now = far < before ? far : before;
    store(nearest + k, now);
    const Mask more = now > best;
    best = more ? now : best;
    at = more ? block : at;
  }
  int lane = 0;
  for (int k = 1; k < S::width; k++) {
    if (best[k] > best[lane] || (best[k] == best[lane] && at[k] < at[lane])) lane = k;
  }
  return int64_t(at[lane]) * S::width + lane;
}

template <class T>
static void furthest(const PointPlanes<T>& points, int64_t wanted, T* nearest, int64_t* rows) {
  const int64_t padded = (points.count + Simd<T>::width - 1) / Simd<T>::width * Simd<T>::width;
  // what is chosen, or only there to fill the last vector, is nearer than anything can be
  for (int64_t k = 0; k < padded; k++)
    nearest[k] = k < points.count ? std::numeric_limits<T>::infinity() : T(-1);
  int64_t row = 0;
  for (int64_t i = 0; i < wanted; i++) {
    rows[i] = row;
    nearest[row] = T(-1);
    const T place[3] = {points.x[row], points.y[row], points.z[row]};
    row = update_nearest(points, place, nearest);
  }
}

template <class T>
static int64_t near(const PointPlanes<T>& points, const T* place, T radius_squared, int64_t most,
                    int64_t* rows) {
  int32_t hit[kPointBlock], list[kPointBlock + 16];
  int64_t found = 0;
  for (int64_t start = 0; start < points.count && found < most; start += kPointBlock) {
    const int count = points.count - start < kPointBlock ? int(points.count - start) : kPointBlock;
    int32_t any = 0;
    for (int k = 0; k < count; k++) {
      hit[k] = squared_distance(points, start + k, place) < radius_squared;
      any |= hit[k];
    }
    if (!any) continue;
    const int hits = list_flags(hit, 0, count, list);
    for (int k = 0; k < hits && found < most; k++) rows[found++] = start + list[k];
  }
  return found;
}

template <class T>
static const PointSetKernels<T>* point_set_table() {
  static const PointSetKernels<T> kernels{furthest<T>, near<T>};
  return &kernels;
}
