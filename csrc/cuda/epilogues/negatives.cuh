// The rows of a thread's tile as the epilogues over negatives take them: bits, masked.
#pragma once

#include "cuda/pair_stream.cuh"
#include "cuda/slots.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

// f(row of the tile, anchor, bits of its 8 distances, index_of(c)): index_of is the caller's row of
// a column. Pairs of one class, and columns beyond the last, have the bits kNoPair. Anchors that
// take no part are left out.
template <class Loop, class F>
__device__ __forceinline__ void for_each_row_of_negatives(const Pairs<float>& pairs,
                                                          const Slots& slots, int32_t first_anchor,
                                                          int32_t first_candidate,
                                                          const ThreadTile<float>& tile,
                                                          const F& f) {
  const int32_t m = pairs.anchors.count, n = pairs.candidates.count;
  // Sorted by label, the classes of the tile's anchors are one range; beside it nothing is masked.
  const int32_t last = min(first_anchor + Loop::kTile, m) - 1;
  const bool mixed = first_candidate + Loop::kTile > n ||
                     (first_candidate < pairs.class_end[last] &&
                      first_candidate + Loop::kTile > pairs.class_begin[first_anchor]);
  const auto index_of = [&](int c) {
    return uint32_t(pairs.candidates.row(first_candidate + Loop::tile_column(c)));
  };
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    const int row = Loop::tile_row(r);
    const int32_t i = first_anchor + row;
    if (i >= m || slots.count[i] == 0) continue;
    uint32_t bits[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) bits[c] = bits_of(tile.d[r][c]);
    if (mixed) {
      const int32_t class_begin = pairs.class_begin[i], class_end = pairs.class_end[i];
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        if (j >= n || (j >= class_begin && j < class_end)) bits[c] = kNoPair;
      }
    }
    f(row, i, bits, index_of);
  }
}

}  // namespace facenet::cuda
