// successor: the closest negative beyond each of an anchor's sorted positive distances.
//
// What a bucket is: semantics/successor.h. `best[k]` starts at the bucket's upper end t[k+1], so
// that "improves its own bucket" reads t[k] < d <= best[k], and these intervals never overlap.
// Few distances lie in one (0.4 to 14 % of the negatives were measured), so the hot loop only
// finds the lanes that do, and a scalar step settles those.
//
//   up to kLinear thresholds   two comparisons per threshold
//   AVX-512, up to 64 (float) or 32 (double) of them
//                              a binary search whose tables are registers: register_table.h
//   otherwise                  a scalar binary search per lane
#pragma once

#include "cpu/epilogues/extremum.h"
#include "cpu/epilogues/register_table.h"
#include "cpu/pair_stream.h"
#include "semantics/order.h"
#include "semantics/successor.h"

namespace facenet::FACENET_ISA {

// Lanes of x that lie in (t[k], best[k]] for some k < count, tested threshold by threshold.
template <class T>
inline uint32_t improving_linear(Vec<T> x, const T* t, const T* best, int64_t count) {
  uint32_t lanes = 0;
  for (int64_t k = 0; k < count; ++k) {
    lanes |= greater(x, broadcast(t[k])) & greater_equal(broadcast(best[k]), x);
  }
  return lanes;
}

// The same by a binary search per lane.
template <class T>
inline uint32_t improving_scalar(const T* x, const T* t, const T* best, int64_t count) {
  uint32_t lanes = 0;
  for (int l = 0; l < W<T>; ++l) {
    const int64_t k = successor_bucket(t, count, x[l]);
    lanes |= uint32_t(k >= 0 && x[l] <= best[k < 0 ? 0 : k]) << l;
  }
  return lanes;
}

template <class T>
struct SuccessorEpilogue {
  static constexpr Which kWhich = Which::kNegatives;
  static constexpr int64_t kLinear = 6;
  const Pairs<T>& pairs;
  Successors<T> to;
  ExtremumEpilogue<T, Which::kNegatives, true> farthest;

  void consume(const TileRanges<T, kWhich>& ranges) {
#if defined(__AVX512F__)
    Improvements<T> found;
#endif
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      const int64_t thresholds = to.count[anchor];
      if (thresholds == 0) return;
      if (farthest.to.distance != nullptr) farthest.consume_range(anchor, first, count, d);
      const T* t = to.threshold + to.offset[anchor];
      const T* best = to.best + to.offset[anchor];
#if defined(__AVX512F__)
      if (thresholds > kLinear && thresholds <= 4 * W<T>) {
        const int row = int(anchor - ranges.first_anchor());
        const int column = int(first - ranges.first_candidate());
        if (thresholds <= W<T>) {
          find_improvements<T, 1>(t, best, count, d, row, column, found);
        } else if (thresholds <= 2 * W<T>) {
          find_improvements<T, 2>(t, best, count, d, row, column, found);
        } else {
          find_improvements<T, 4>(t, best, count, d, row, column, found);
        }
        return;
      }
#endif
      for (int at = 0; at < count; at += W<T>) {
        uint32_t lanes = thresholds <= kLinear
                             ? improving_linear<T>(load(d + at), t, best, thresholds)
                             : improving_scalar<T>(d + at, t, best, thresholds);
        for (lanes &= first_lanes<T>(count - at); lanes != 0; lanes &= lanes - 1) {
          const int l = at + __builtin_ctz(lanes);
          offer(anchor, successor_bucket(t, thresholds, d[l]), first + l, d[l]);
        }
      }
    });
#if defined(__AVX512F__)
    for (int e = 0; e < found.size; ++e) {
      const int row = found.row(e), column = found.column(e);
      offer(ranges.first_anchor() + row, found.bucket(e), ranges.first_candidate() + column,
            ranges.tile.d[row][column]);
    }
#endif
  }

  // Bucket k of the anchor meets candidate j at distance d.
  void offer(int64_t anchor, int64_t k, int64_t j, T d) {
    T& best = to.best[to.offset[anchor] + k];
    int32_t& best_index = to.best_index[to.offset[anchor] + k];
    // Not closer than the best: a tie, a first one at the bucket's upper end, or one that another
    // lane of the same vector has just beaten.
    if (!(d < best) && !closer(d, pairs.candidate_order[j], best, order_of(best_index))) return;
    best = d;
    best_index = int32_t(j);
  }

  int64_t order_of(int32_t j) const { return j < 0 ? -1 : int64_t(pairs.candidate_order[j]); }
};

}  // namespace facenet::FACENET_ISA
