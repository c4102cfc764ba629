// The rows of a thread's tile as the epilogues over negatives take them: bits, masked.
#pragma once

#include "cuda/pair_stream.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

// Calls f(row of the tile, anchor, bits of its 8 distances, index_of). index_of(c) is the caller's
// row of column c. Pairs of one class, columns beyond the last and distances that are NaN have the
// bits kNoPair. Every lane of a warp calls f for all of its 8 rows.
// f itself must reject rows that take no part, by the bounds that it has for them. Those beyond the
// last anchor are such rows.
template <class Loop, class F>
__device__ __forceinline__ void for_each_row_of_negatives(const Pairs<float>& pairs,
                                                          int32_t first_anchor,
                                                          int32_t first_candidate,
                                                          const ThreadTile<float>& tile,
                                                          const F& f) {
  const int32_t last_row = pairs.anchors.count - 1, n = pairs.candidates.count;
  // Sorted by label, the classes of the tile's anchors are one range; beside it nothing is masked.
  const int32_t last = min(first_anchor + Loop::kTileRows - 1, last_row);
  const bool mixed = Loop::kMayBeNan || first_candidate + Loop::kTileColumns > n ||
                     (first_candidate < pairs.class_end[last] &&
                      first_candidate + Loop::kTileColumns > pairs.class_begin[first_anchor]);
  const auto index_of = [&](int c) {
    return uint32_t(pairs.candidates.row(first_candidate + Loop::tile_column(c)));
  };
  uint32_t bits[8][8];
#pragma unroll
  for (int r = 0; r < 8; ++r)
#pragma unroll
    for (int c = 0; c < 8; ++c) bits[r][c] = bits_of(tile.d[r][c]);
  if (mixed) {
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int32_t i = min(first_anchor + Loop::tile_row(r), last_row);
      const int32_t class_begin = pairs.class_begin[i], class_end = pairs.class_end[i];
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        const bool counts = j < n && (j < class_begin || j >= class_end) && bits[r][c] <= kInfinity;
        if (!counts) bits[r][c] = kNoPair;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    const int row = Loop::tile_row(r);
    f(row, min(first_anchor + row, last_row), bits[r], index_of);
  }
}

}  // namespace facenet::cuda
