// positives: appends the distances of an anchor's positives, in candidate order, to its slots.
#pragma once

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

template <class T>
struct PositivesEpilogue {
  static constexpr Which kWhich = Which::kPositives;
  const Pairs<T>& pairs;
  Positives<T> to;

  void consume(int64_t anchor, int64_t first, int count, const T* d) {
    int64_t slot = to.offset[anchor] + to.count[anchor];
    for (int l = 0; l < count; ++l) {
      if (pairs.excluded(anchor, first + l)) continue;
      to.distance[slot] = d[l];
      to.index[slot] = int32_t(first + l);
      ++slot;
    }
    to.count[anchor] = int32_t(slot - to.offset[anchor]);
  }
};

}  // namespace facenet::FACENET_ISA
