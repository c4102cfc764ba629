// store: every distance to its place in the output matrix. No state.
#pragma once

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

template <class T>
struct StoreEpilogue {
  static constexpr Which kWhich = Which::kAll;
  static constexpr bool kByCandidate = false;
  Store<T> to;
  int64_t row_length;

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      T* out = to.out + anchor * row_length + first;
      for (int l = 0; l < count; ++l) out[l] = d[l];
    });
  }
};

}  // namespace facenet::FACENET_ISA
