// within: every pair that is no farther apart than a radius, in any order.
//
// A row of a tile claims places for all of its pairs at once. Beyond the capacity pairs are
// only counted. The count tells the caller which capacity a second call needs.
#pragma once

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

template <class T>
struct WithinEpilogue {
  static constexpr Which kWhich = Which::kOnce;
  static constexpr bool kByCandidate = false;
  Within<T> to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    const Vec<T> radius = broadcast(to.radius);
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      for (int at = 0; at < count; at += kGroup * W<T>) {
        uint32_t level[kGroup];
#pragma GCC unroll 6
        for (int v = 0; v < kGroup; ++v) level[v] = greater_equal(radius, load(d + at + v * W<T>));
        uint64_t lanes = join<T>(level) & first_lanes(count - at);
        if (__builtin_expect(lanes == 0, 1)) continue;
        const int64_t claimed = __builtin_popcountll(lanes);
        int64_t place = to.count->fetch_add(claimed, std::memory_order_relaxed);
        for (; lanes != 0 && place < to.capacity; lanes &= lanes - 1, ++place) {
          const int l = at + __builtin_ctzll(lanes);
          to.pairs[2 * place] = anchor;
          to.pairs[2 * place + 1] = first + l;
          to.distance[place] = d[l];
        }
      }
    });
  }
};

}  // namespace facenet::FACENET_ISA
