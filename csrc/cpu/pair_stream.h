// The pair stream: every pair of rows, as tiles of distances that an epilogue consumes at once.
//
// A tile is kPanel anchors by kPanel candidates. Distances are sums of squared differences, not
// the Gram identity |a|^2 + |b|^2 - 2ab. They need no centring and no second look, equal rows are
// at exactly 0, d(i, j) and d(j, i) are the same bits, and a search distance *is* the distance of
// the loss. They take one subtraction more for each multiply-add. It is free where the processor
// has separate units for additions (on Zen 5 the tile takes as long as a Gram tile), and at most
// doubles the arithmetic elsewhere.
//
// Where the candidates begin with the anchors, as in self mode, tile (I, J) with I < J serves its
// rows as anchors and, transposed, its columns, if they are anchors. This halves the arithmetic.
// Many tiles then reach an anchor's state, so a lock per panel guards it. A task holds the lock
// only while the epilogue runs.
//
// An epilogue is a class with
//   static constexpr Which kWhich;
//   static constexpr bool kByCandidate;  whether it reads tiles by candidates too
//   void consume(const TileRanges<T, kWhich>& ranges);
// `consume` goes through the ranges of candidates that kWhich asks for, anchor by anchor.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>

#include "cpu/kernel_arguments.h"
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
inline constexpr int kRows = 6, kCols = 2;  // 12 of 16, two candidates, an anchor, a difference
#endif

template <class T>
struct alignas(64) Tile {
  T d[kPanel][kPanel];
  T pad[kGroup * W<T>];  // for vectors that begin in the last row
};

template <class T, int kCols>
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

// Rows of a tile that somebody will read.
struct RowRange {
  int begin = 0, end = kPanel;
};

// Distances of anchor panel p to candidate panel q, at least in the given rows and in the columns
// that exist.
template <class T>
void compute_tile(const Pairs<T>& pairs, int64_t p, int64_t q, RowRange rows, Tile<T>& tile) {
  static_assert(kPanel % kRows == 0 && kPanel % (kCols * W<T>) == 0);
  const int row_end = int(std::min<int64_t>(rows.end, pairs.anchors.rows - p * kPanel));
  const int row_begin = rows.begin / kRows * kRows;
  const int column_end = int(std::min<int64_t>(kPanel, pairs.candidates.rows - q * kPanel));
  const int64_t dim = pairs.anchors.dim;
  const T* a = pairs.anchors.panel(p);
  const T* b = pairs.candidates.panel(q);
  if (dim == 0) std::fill_n(&tile.d[0][0], kPanel * kPanel, T(0));
  for (int64_t k = 0; k < dim; k += kDepth) {
    const int64_t depth = dim - k < kDepth ? dim - k : kDepth;
    int c = 0;
    for (; c + (kCols - 1) * W<T> < column_end; c += kCols * W<T>) {
      for (int r = row_begin; r < row_end; r += kRows) {
        microtile<T, kCols>(a + k * kPanel + r, b + k * kPanel + c, depth, k == 0, &tile.d[r][c]);
      }
    }
    for (; c < column_end; c += W<T>) {
      for (int r = row_begin; r < row_end; r += kRows) {
        microtile<T, 1>(a + k * kPanel + r, b + k * kPanel + c, depth, k == 0, &tile.d[r][c]);
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

// Whether a tile has no pair of one class. Classes ascend with their anchors.
template <class T>
inline bool classes_apart(const Pairs<T>& pairs, int64_t p, int64_t q) {
  const int64_t first = p * kPanel, last = std::min(first + kPanel, pairs.anchors.rows) - 1;
  return pairs.class_end[last] <= q * kPanel || pairs.class_begin[first] >= (q + 1) * kPanel;
}

// The rows of a tile (anchors of panel p, candidates of panel q), cut at the borders of each
// anchor's class.
template <class T, Which kWhich>
struct TileRanges {
  const Pairs<T>& pairs;
  int64_t p, q;
  const Tile<T>& tile;
  const Tile<T>* by_candidate;  // the same transposed, if the epilogue wants it

  int64_t first_anchor() const { return p * kPanel; }
  int64_t first_candidate() const { return q * kPanel; }

  // Calls f(anchor, first, count, d) for each range: candidates first .. first + count - 1 lie at
  // d[0 .. count - 1], and a group of vectors may be read from anywhere in there.
  template <class F>
  void for_each(F&& f) const {
    const int64_t first = first_candidate();
    const int64_t last = std::min(first + kPanel, pairs.candidates.rows);
    const int64_t anchors = std::min<int64_t>(kPanel, pairs.anchors.rows - first_anchor());
    if constexpr (kWhich == Which::kNegatives) {
      if (classes_apart(pairs, p, q)) {
        for (int64_t r = 0; r < anchors; ++r) {
          f(first_anchor() + r, first, int(last - first), tile.d[r]);
        }
        return;
      }
    }
    for (int64_t r = 0; r < anchors; ++r) {
      const int64_t i = first_anchor() + r;
      const T* d = tile.d[r];
      if constexpr (kWhich == Which::kAll) {
        f(i, first, int(last - first), d);
      } else if constexpr (kWhich == Which::kOnce) {
        const int64_t begin = pairs.self ? std::clamp(i + 1, first, last) : first;
        if (begin < last) f(i, begin, int(last - begin), d + (begin - first));
      } else {
        const int64_t begin = std::clamp<int64_t>(pairs.class_begin[i], first, last);
        const int64_t end = std::clamp<int64_t>(pairs.class_end[i], first, last);
        if constexpr (kWhich == Which::kPositives) {
          if (begin < end) f(i, begin, int(end - begin), d + (begin - first));
        } else {
          if (first < begin) f(i, first, int(begin - first), d);
          if (end < last) f(i, end, int(last - end), d + (end - first));
        }
      }
    }
  }
};

class PanelLocks {
 public:
  PanelLocks(std::atomic<bool>* flags) : flags_(flags) {}
  void lock(int64_t p) {
    for (int spins = 0; flags_[p].exchange(true, std::memory_order_acquire); ++spins) {
      if (spins % 64 == 63) sched_yield();  // its owner may have lost the processor
    }
  }
  void unlock(int64_t p) { flags_[p].store(false, std::memory_order_release); }

 private:
  std::atomic<bool>* flags_;
};

// Tasks of the stream: anchor panel p against kPanelGroup candidate panels, which fit the L2 cache
// with room to spare at the usual dimensions.
inline constexpr int64_t kPanelGroup = 8;

template <class T, class Epilogue>
void stream_pairs(const Pairs<T>& pairs, const Epilogue& prototype) {
  const int64_t p_count = panel_count(pairs.anchors.rows);
  const int64_t q_count = panel_count(pairs.candidates.rows);
  const double tile_work = double(kPanel) * kPanel * double(pairs.anchors.dim + kDepth) / W<T>;

  if constexpr (Epilogue::kWhich == Which::kPositives) {
    // Only tiles that hold pairs of one class; anchors of a panel have neighbouring classes.
    parallel_tasks(p_count, 2 * tile_work * double(p_count), [&](int64_t p) {
      Epilogue epilogue = prototype;
      Tile<T> tile;
      const int64_t last = std::min((p + 1) * kPanel, pairs.anchors.rows) - 1;
      const int64_t begin = pairs.class_begin[p * kPanel], end = pairs.class_end[last];
      for (int64_t q = begin / kPanel; q * kPanel < end; ++q) {
        // Classes ascend: anchors whose class reaches into panel q are neighbours.
        const auto reaches = [&](int r) {
          const int64_t i = p * kPanel + r;
          return pairs.class_begin[i] < (q + 1) * kPanel && pairs.class_end[i] > q * kPanel;
        };
        RowRange rows{0, int(last - p * kPanel) + 1};
        while (rows.begin < rows.end && !reaches(rows.begin)) ++rows.begin;
        while (rows.begin < rows.end && !reaches(rows.end - 1)) --rows.end;
        if (rows.begin == rows.end) continue;
        compute_tile(pairs, p, q, rows, tile);
        epilogue.consume({pairs, p, q, tile, nullptr});
      }
    });
    return;
  }

  // Neighbouring tasks have other anchors and start at other candidates, so that workers seldom
  // want the same panel's lock; the group of candidates stays in the cache from task to task. Tiles
  // below the diagonal are left out where those above it serve both sides.
  const int64_t groups = (q_count + kPanelGroup - 1) / kPanelGroup;
  const bool symmetric = pairs.symmetric;
  std::atomic<bool>* flags = new std::atomic<bool>[std::max<int64_t>(p_count, 1)]();
  PanelLocks locks(flags);
  const double work = tile_work * double(p_count) * double(q_count) * (symmetric ? 0.5 : 1.0);
  parallel_tasks(p_count * groups, work, [&](int64_t task) {
    const int64_t p = task % p_count, group = task / p_count;
    const int64_t begin = std::max(group * kPanelGroup, symmetric ? p : 0);
    const int64_t end = std::min((group + 1) * kPanelGroup, q_count);
    Epilogue epilogue = prototype;
    Tile<T> tile, transposed;
    for (int64_t step = 0; step < end - begin; ++step) {
      const int64_t q = begin + (step + p) % (end - begin);
      compute_tile(pairs, p, q, RowRange(), tile);
      if constexpr (Epilogue::kWhich == Which::kOnce) {  // no anchor's state to lock
        epilogue.consume({pairs, p, q, tile, nullptr});
        continue;
      }
      const bool both = symmetric && p != q && q < p_count;
      if (both || Epilogue::kByCandidate) transpose_tile(tile, transposed);
      locks.lock(p);
      epilogue.consume({pairs, p, q, tile, &transposed});
      locks.unlock(p);
      if (both) {
        locks.lock(q);
        epilogue.consume({pairs, q, p, transposed, &tile});
        locks.unlock(q);
      }
    }
  });
  delete[] flags;
}

}  // namespace facenet::FACENET_ISA
