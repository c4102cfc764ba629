// nearest: the k closest candidates of each anchor.
//
// As in extremum, most vectors hold nothing closer than the last entry of the anchor's list, and
// cost one comparison. Of N candidates about k ln(N / k) enter the list.
#pragma once

#include "cpu/pair_stream.h"
#include "semantics/nearest.h"

namespace facenet::FACENET_ISA {

template <class T>
struct NearestEpilogue {
  static constexpr Which kWhich = Which::kAll;
  static constexpr bool kByCandidate = false;
  const Pairs<T>& pairs;
  Nearest<T> to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      T* distances = to.distance + anchor * to.k;
      int32_t* indices = to.index + anchor * to.k;
      for (int at = 0; at < count; at += kGroup * W<T>) {
        const Vec<T> last = broadcast(distances[to.k - 1]);
        uint32_t level[kGroup];
#pragma GCC unroll 6
        for (int v = 0; v < kGroup; ++v) level[v] = greater_equal(last, load(d + at + v * W<T>));
        uint64_t lanes = join<T>(level) & first_lanes(count - at);
        for (; __builtin_expect(lanes != 0, 0); lanes &= lanes - 1) {
          const int l = at + __builtin_ctzll(lanes);
          const int64_t j = first + l;
          if (pairs.self && j == anchor) continue;
          offer_nearest(d[l], int32_t(j), int32_t(to.k), distances, indices);
        }
      }
    });
  }
};

}  // namespace facenet::FACENET_ISA
