// positives: appends the distances of an anchor's positives, in candidate order, to its slots.
#pragma once

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

template <class T>
struct PositivesEpilogue {
  static constexpr Which kWhich = Which::kPositives;
  static constexpr bool kByCandidate = false;
  Positives<T> to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      if (to.offset[anchor] == to.offset[anchor + 1]) return;  // takes no part
      int64_t slot = to.offset[anchor] + to.count[anchor];
      for (int l = 0; l < count; ++l) {
        if (ranges.pairs.excluded(anchor, first + l)) continue;
        to.distance[slot] = d[l];
        to.index[slot] = int32_t(first + l);
        ++slot;
      }
      to.count[anchor] = int32_t(slot - to.offset[anchor]);
    });
  }
};

}  // namespace facenet::FACENET_ISA
