// The pair stream: every pair of rows, as tiles of distances that an epilogue eats at once.
//
// A tile is kPanel anchors by kPanel candidates. Distances are sums of squared differences, not
// the Gram identity |a|^2 + |b|^2 - 2ab: they need no centring and no second look, equal rows are
// at exactly 0, d(i, j) and d(j, i) are the same bits, and a search distance *is* the distance of
// the loss. A subtraction more per multiply-add is free where additions have units of their own
// (Zen 5: measured level with the Gram tile) and at most doubles the arithmetic elsewhere.
//
// In self mode tile (I, J) with I < J serves its rows as anchors and, transposed, its columns:
// half the arithmetic. An anchor's state is then reached from many tiles; a lock per panel guards
// it, held only while the epilogue runs.
//
// An epilogue is a class with
//   static constexpr Which kWhich;
//   void consume(int64_t anchor, int64_t first, int count, const T* d);
// where candidates first .. first + count - 1 lie at d[0 .. count - 1]. d may be read up to W
// lanes past its end.
#pragma once

#include <algorithm>
#include <atomic>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace facenet::FACENET_ISA {

using namespace facenet::cpu;

// One sum is kept per kDepth coordinates and the sums are added: rounding grows with
// kDepth + dim / kDepth in place of dim, and two slices of a panel stay in the L1 cache.
inline constexpr int64_t kDepth = 64;

// Registers of a microtile: kRows anchors by kCols vectors of candidates, one accumulator each.
#if defined(__AVX512F__)
inline constexpr int kRows = 8, kCols = 3;  // 24 of 32 registers
#else
inline constexpr int kRows = 4, kCols = 2;  // 8 of 16 registers
#endif

template <class T>
struct alignas(64) Tile {
  T d[kPanel][kPanel];
  T pad[W<T>];
};

template <class T>
inline void microtile(const T* a, const T* b, int64_t depth, bool first, T* out) {
  Vec<T> sum[kRows][kCols] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> candidate[kCols];
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c) candidate[c] = load(b + k * kPanel + c * W<T>);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kCols; ++c) {
        const Vec<T> difference = candidate[c] - a[k * kPanel + r];
        sum[r][c] += difference * difference;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c) {
      T* target = out + r * kPanel + c * W<T>;
      store(target, first ? sum[r][c] : load(target) + sum[r][c]);
    }
  }
}

// Distances of anchor panel p to candidate panel q.
template <class T>
void compute_tile(const Pairs<T>& pairs, int64_t p, int64_t q, Tile<T>& tile) {
  static_assert(kPanel % kRows == 0 && kPanel % (kCols * W<T>) == 0);
  const int64_t dim = pairs.anchors.dim;
  const T* a = pairs.anchors.panel(p);
  const T* b = pairs.candidates.panel(q);
  if (dim == 0) std::fill_n(&tile.d[0][0], kPanel * kPanel, T(0));
  for (int64_t k = 0; k < dim; k += kDepth) {
    const int64_t depth = dim - k < kDepth ? dim - k : kDepth;
    for (int c = 0; c < kPanel; c += kCols * W<T>) {
      for (int r = 0; r < kPanel; r += kRows) {
        microtile(a + k * kPanel + r, b + k * kPanel + c, depth, k == 0, &tile.d[r][c]);
      }
    }
  }
  if (pairs.distance == Distance::kSqEuclidean) return;
  T* d = &tile.d[0][0];
  if (pairs.distance == Distance::kEuclidean) {
    for (int i = 0; i < kPanel * kPanel; ++i) {
      d[i] = distance_from_squares(Distance::kEuclidean, d[i]);
    }
    return;
  }
  for (int i = 0; i < kPanel * kPanel; ++i) {
    d[i] = distance_from_squares(Distance::kCosine, d[i]);
  }
  const uint8_t* zero_a = pairs.anchors.zero_row;
  const uint8_t* zero_c = pairs.candidates.zero_row;
  if (zero_a == nullptr && zero_c == nullptr) return;
  for (int r = 0; r < kPanel; ++r) {
    const int64_t i = p * kPanel + r;
    const bool anchor_zero = zero_a != nullptr && i < pairs.anchors.rows && zero_a[i];
    for (int c = 0; c < kPanel; ++c) {
      const int64_t j = q * kPanel + c;
      if (anchor_zero || (zero_c != nullptr && j < pairs.candidates.rows && zero_c[j])) {
        // d - d keeps a NaN of the other row.
        tile.d[r][c] = T(1) + (tile.d[r][c] - tile.d[r][c]);
      }
    }
  }
}

template <class T>
inline void transpose_tile(const Tile<T>& tile, Tile<T>& out) {
  for (int r = 0; r < kPanel; r += W<T>) {
    for (int c = 0; c < kPanel; c += W<T>) {
      transpose(&tile.d[r][c], kPanel, &out.d[c][r], kPanel);
    }
  }
}

// Gives the rows of a tile (anchors of panel p, candidates of panel q) to the epilogue, cut at
// the borders of each anchor's class.
template <class T, class Epilogue>
inline void consume_rows(const Pairs<T>& pairs, Epilogue& epilogue, int64_t p, int64_t q,
                         const Tile<T>& tile) {
  const int64_t first = q * kPanel;
  const int64_t last = std::min(first + kPanel, pairs.candidates.rows);
  const int64_t anchors = std::min<int64_t>(kPanel, pairs.anchors.rows - p * kPanel);
  for (int64_t r = 0; r < anchors; ++r) {
    const int64_t i = p * kPanel + r;
    const T* d = tile.d[r];
    if constexpr (Epilogue::kWhich == Which::kAll) {
      epilogue.consume(i, first, int(last - first), d);
    } else {
      const int64_t begin = std::clamp<int64_t>(pairs.class_begin[i], first, last);
      const int64_t end = std::clamp<int64_t>(pairs.class_end[i], first, last);
      if constexpr (Epilogue::kWhich == Which::kPositives) {
        if (begin < end) epilogue.consume(i, begin, int(end - begin), d + (begin - first));
      } else {
        if (first < begin) epilogue.consume(i, first, int(begin - first), d);
        if (end < last) epilogue.consume(i, end, int(last - end), d + (end - first));
      }
    }
  }
}

class PanelLocks {
 public:
  PanelLocks(std::atomic<bool>* flags) : flags_(flags) {}
  void lock(int64_t p) {
    while (flags_[p].exchange(true, std::memory_order_acquire)) {
    }
  }
  void unlock(int64_t p) { flags_[p].store(false, std::memory_order_release); }

 private:
  std::atomic<bool>* flags_;
};

// Tasks of the stream: anchor panel p against kGroup candidate panels, which fit the L2 cache
// with room to spare at the usual dimensions.
inline constexpr int64_t kGroup = 8;

template <class T, class Epilogue>
void stream_pairs(const Pairs<T>& pairs, const Epilogue& prototype) {
  const int64_t p_count = panel_count(pairs.anchors.rows);
  const int64_t q_count = panel_count(pairs.candidates.rows);
  const double tile_work =
      double(kPanel) * kPanel * double(pairs.anchors.dim + kDepth) / W<T>;

  if constexpr (Epilogue::kWhich == Which::kPositives) {
    // Only tiles that hold pairs of one class; anchors of a panel have neighbouring classes.
    parallel_tasks(p_count, 2 * tile_work * double(p_count), [&](int64_t p) {
      Epilogue epilogue = prototype;
      Tile<T> tile;
      const int64_t last = std::min((p + 1) * kPanel, pairs.anchors.rows) - 1;
      const int64_t begin = pairs.class_begin[p * kPanel], end = pairs.class_end[last];
      for (int64_t q = begin / kPanel; q * kPanel < end; ++q) {
        compute_tile(pairs, p, q, tile);
        consume_rows(pairs, epilogue, p, q, tile);
      }
    });
    return;
  }

  // Tasks in row-major order; in self mode those that lie wholly below the diagonal are skipped.
  const int64_t groups = (q_count + kGroup - 1) / kGroup;
  const bool self = pairs.self;
  std::atomic<bool>* flags = new std::atomic<bool>[std::max<int64_t>(p_count, 1)]();
  PanelLocks locks(flags);
  const double work = tile_work * double(p_count) * double(q_count) * (self ? 0.5 : 1.0);
  parallel_tasks(p_count * groups, work, [&](int64_t task) {
    const int64_t p = task / groups;
    const int64_t begin = std::max(task % groups * kGroup, self ? p : 0);
    const int64_t end = std::min((task % groups + 1) * kGroup, q_count);
    Epilogue epilogue = prototype;
    Tile<T> tile, transposed;
    for (int64_t q = begin; q < end; ++q) {
      compute_tile(pairs, p, q, tile);
      locks.lock(p);
      consume_rows(pairs, epilogue, p, q, tile);
      locks.unlock(p);
      if (self && p != q) {
        transpose_tile(tile, transposed);
        locks.lock(q);
        consume_rows(pairs, epilogue, q, p, transposed);
        locks.unlock(q);
      }
    }
  });
  delete[] flags;
}

}  // namespace facenet::FACENET_ISA
