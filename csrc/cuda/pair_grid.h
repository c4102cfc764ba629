// The grid of the pair stream.
#pragma once

#include <algorithm>

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

inline int64_t tiles_of(int64_t rows, int64_t tile) { return (rows + tile - 1) / tile; }

// Stripes of candidates: several rounds of blocks for every multiprocessor, so that the last one
// leaves few idle.
template <class T>
dim3 grid_of(const Device& device, const Pairs<T>& pairs, int tile_rows, int tile_columns,
             int64_t blocks_per_processor, Stripes& stripes) {
  const int64_t rows = tiles_of(pairs.anchors.count, tile_rows);
  const int64_t columns = std::max<int64_t>(1, tiles_of(pairs.candidates.count, tile_columns));
  const int64_t wanted = std::max<int64_t>(1, blocks_per_processor * device.processors() / rows);
  const int64_t length = tiles_of(columns, std::min<int64_t>({wanted, columns, 65535}));
  stripes.tiles_per_stripe = int32_t(length);
  return dim3(unsigned(rows), unsigned(tiles_of(columns, length)), 1);
}

}  // namespace facenet::cuda
