// successor: the closest negative beyond each of an anchor's sorted positive distances.
//
// semantics/successor.h defines a bucket. A distance improves its own bucket where t[k] < d <=
// bound[k]. The bound is the bucket's upper end t[k+1] until the bucket has a negative, and the
// distance of its closest one from then on. These intervals never overlap. Few distances lie in
// one: 0.4 to 14 % of the negatives, as measured. The hot loop therefore only finds the lanes that
// improve a bucket, and a scalar step settles those.
//
//   up to kLinear thresholds   two comparisons per threshold
//   more                       a binary search of all lanes at once: threshold_search.h
//   over a million             a binary search for each lane
#pragma once

#include "cpu/epilogues/extremum.h"
#include "cpu/epilogues/threshold_search.h"
#include "cpu/pair_stream.h"
#include "semantics/order.h"
#include "semantics/successor.h"

namespace facenet::FACENET_ISA {

template <class T>
struct SuccessorEpilogue {
  static constexpr Which kWhich = Which::kNegatives;
  static constexpr int64_t kLinear = 6;
  const Pairs<T>& pairs;
  Successors<T> to;
  ExtremumEpilogue<T, Which::kNegatives, true> farthest;

  void consume(const TileRanges<T, kWhich>& ranges) {
    Improvements<T> improvements;
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      const int64_t thresholds = to.count[anchor];
      if (thresholds == 0) return;
      if (farthest.to.distance != nullptr) farthest.consume_range(anchor, first, count, d);
      if (thresholds <= kLinear) {
        test_each(anchor, first, count, d);
        return;
      }
      if (thresholds > Improvements<T>::kMostBuckets) {
        for (int l = 0; l < count; ++l) {
          const int64_t k = successor_bucket(to.threshold + to.offset[anchor], thresholds, d[l]);
          if (k >= 0) offer(anchor, k, first + l, d[l]);
        }
        return;
      }
      int slots = int(kSlotPad);
      while (slots < thresholds) slots *= 2;
      search(anchor, slots, count, d, int(anchor - ranges.first_anchor()),
             int(first - ranges.first_candidate()), improvements);
    });
    for (int e = 0; e < improvements.size; ++e) {
      const int row = improvements.row(e), column = improvements.column(e);
      offer(ranges.first_anchor() + row, improvements.bucket(e), ranges.first_candidate() + column,
            ranges.tile.d[row][column]);
    }
  }

  void test_each(int64_t anchor, int64_t first, int count, const T* d) {
    const int64_t thresholds = to.count[anchor];
    const T* t = to.threshold + to.offset[anchor];
    const T* bound = to.bound + to.offset[anchor];
    for (int at = 0; at < count; at += kGroup * W<T>) {
      uint32_t improving[kGroup] = {};
      for (int64_t k = 0; k < thresholds; ++k) {
        const Vec<T> low = broadcast(t[k]), high = broadcast(bound[k]);
#pragma GCC unroll 3
        for (int v = 0; v < kGroup; ++v) {
          improving[v] |= inside<T>(load(d + at + v * W<T>), low, high);
        }
      }
      uint64_t lanes = join<T>(improving) & first_lanes(count - at);
      for (; __builtin_expect(lanes != 0, 0); lanes &= lanes - 1) {
        const int l = at + __builtin_ctzll(lanes);
        offer(anchor, successor_bucket(t, thresholds, d[l]), first + l, d[l]);
      }
    }
  }

  void search(int64_t anchor, int slots, int count, const T* d, int row, int column,
              Improvements<T>& improvements) {
    const T* t = to.threshold + to.offset[anchor];
    const T* bound = to.bound + to.offset[anchor];
    with_table<T>(t, slots, [&](const auto& thresholds) {
      const std::decay_t<decltype(thresholds)> bounds(bound, slots);
      find_improvements<T>(thresholds, bounds, t[0], count, d, row, column, improvements);
    });
  }

  // Offers candidate j at distance d to bucket k of the anchor. No branch could predict whether it
  // wins, so that is a selection. An equal distance is rare: it is a tie, or that of a first
  // negative at the very end of its bucket.
  void offer(int64_t anchor, int64_t k, int64_t j, T d) {
    T& bound = to.bound[to.offset[anchor] + k];
    int32_t& index = to.index[to.offset[anchor] + k];
    const T before = bound;
    index = d < before ? int32_t(j) : index;
    bound = d < before ? d : before;
    if (__builtin_expect(d == before, 0) &&
        closer(d, pairs.candidate_order[j], before, order_of(index))) {
      index = int32_t(j);
    }
  }

  int64_t order_of(int32_t j) const { return j < 0 ? -1 : int64_t(pairs.candidate_order[j]); }
};

}  // namespace facenet::FACENET_ISA
