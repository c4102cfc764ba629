// extremum: the closest or the farthest candidate of each anchor.
//
// Most vectors hold no improvement and cost one comparison. About ln N of N candidates improve on
// all before them.
#pragma once

#include "cpu/pair_stream.h"
#include "semantics/order.h"

namespace facenet::FACENET_ISA {

template <class T, Which kPairs, bool kFarthest>
struct ExtremumEpilogue {
  static constexpr Which kWhich = kPairs;
  static constexpr bool kByCandidate = false;
  const Pairs<T>& pairs;
  Extremum<T> to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      consume_range(anchor, first, count, d);
    });
  }

  void consume_range(int64_t anchor, int64_t first, int count, const T* d) {
    for (int at = 0; at < count; at += kGroup * W<T>) {
      const Vec<T> best = broadcast(to.distance[anchor]);
      uint32_t level[kGroup];
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        const Vec<T> x = load(d + at + v * W<T>);
        level[v] = kFarthest ? greater_equal(x, best) : greater_equal(best, x);
      }
      uint64_t lanes = join<T>(level) & first_lanes(count - at);
      for (; __builtin_expect(lanes != 0, 0); lanes &= lanes - 1) {
        const int l = at + __builtin_ctzll(lanes);
        offer(anchor, first + l, d[l]);
      }
    }
  }

  void offer(int64_t anchor, int64_t j, T d) {
    // The vector was compared with an older result: an earlier lane may have improved it since.
    if (kFarthest ? d < to.distance[anchor] : d > to.distance[anchor]) return;
    if (kWhich == Which::kPositives && pairs.excluded(anchor, j)) return;
    const int32_t best = to.index[anchor];
    const int64_t best_order = best < 0 ? -1 : pairs.candidate_order[best];
    const int64_t order = pairs.candidate_order[j];
    const bool wins = kFarthest ? farther(d, order, to.distance[anchor], best_order)
                                : closer(d, order, to.distance[anchor], best_order);
    if (!wins) return;
    to.distance[anchor] = d;
    to.index[anchor] = int32_t(j);
  }
};

}  // namespace facenet::FACENET_ISA
