// The pair stream: one kernel for every main loop and every epilogue.
//
// Block (x, y) takes tile x of the anchors against stripe y of the candidates' tiles. A main loop
// computes tiles of distances and gives each thread 8 x 8 of them. An epilogue consumes those.
// Another main loop (wgmma and TMA, say) is another class with MmaLoop's members: tile_row,
// tile_column, run, and the constants that both share.
//
// An epilogue has
//   static int shared_bytes(rows)      its shared memory, behind the main loop's
//   Epilogue(arguments, pairs, shared)
//   bool begin(first anchor)           called once by all threads; ends with a barrier if needed;
//                                      false, for all of them: there is nothing to do
//   consume<Loop>(first candidate, tile)
#pragma once

#include "cuda/launch.h"
#include "cuda/pair_tile.cuh"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"

namespace facenet::cuda {

// Distances as keys compare them. A pair that does not count gets bits that lose every contest:
// -1 as a signed integer, and NaN as a float.
constexpr uint32_t kNoPair = 0xffffffffu;
constexpr uint32_t kInfinity = 0x7f800000u;  // bits beyond are no distance

__device__ inline const Pairs<float>& pairs_of(const Pairs<float>& pairs) { return pairs; }
__device__ inline const Pairs<double>& pairs_of(const Pairs<double>& pairs) { return pairs; }
template <class Arguments>
__device__ const Pairs<float>& pairs_of(const Arguments& arguments) {
  return arguments.pairs;
}

template <class Loop, class Epilogue>
__global__ void __launch_bounds__(Loop::kThreads, Loop::kBlocksPerProcessor)
    pair_stream(const typename Loop::Arguments loop_arguments,
                const typename Epilogue::Arguments epilogue_arguments, const Stripes stripes,
                const Guard guard, const int32_t loop_bytes) {
  if (!guard.open()) return;
  unsigned char* shared = dynamic_shared_memory();
  const auto& pairs = pairs_of(loop_arguments);
  const int32_t first_anchor = int32_t(blockIdx.x) * Loop::kTileRows;
  int32_t begin, end;
  if (stripes.tiles_per_stripe > 0) {
    const int64_t stripe = int64_t(stripes.tiles_per_stripe) * Loop::kTileColumns;
    begin = int32_t(stripe * blockIdx.y);
    if (stripes.from_diagonal) begin = max(begin, first_anchor);
    end = int32_t(min(stripe * (blockIdx.y + 1), int64_t(pairs.candidates.count)));
  } else {
    // Both sides are sorted by label: the classes of a tile of anchors are one range.
    const int32_t last = min(first_anchor + Loop::kTileRows, pairs.anchors.count) - 1;
    begin = pairs.class_begin[first_anchor];
    end = pairs.class_end[last];
  }
  Loop loop(loop_arguments, shared);
  Epilogue epilogue(epilogue_arguments, pairs, shared + loop_bytes);
  if (!epilogue.template begin<Loop>(first_anchor)) return;
  loop.run(first_anchor, begin, end,
           [&](int32_t first_candidate, const ThreadTile<typename Loop::Value>& tile) {
             epilogue.template consume<Loop>(first_candidate, tile);
           });
}

}  // namespace facenet::cuda
