// Launches of the pair stream, with stripes that fill the device and shared memory that fits it.
#pragma once

#include <algorithm>

#include "cuda/fma_loop.cuh"
#include "cuda/mma_loop.cuh"
#include "cuda/pair_stream.cuh"
#include "cuda/search.h"

namespace facenet::cuda {

template <class T>
std::string sizes_of(const Pairs<T>& pairs) {
  return "M=" + std::to_string(pairs.anchors.count) +
         " N=" + std::to_string(pairs.candidates.count) + " D=" + std::to_string(pairs.anchors.dim);
}

inline int64_t tiles_of(int64_t rows, int64_t tile) { return (rows + tile - 1) / tile; }

// Stripes of candidates: several rounds of blocks for every multiprocessor, so that the last one
// leaves few idle.
template <class Loop>
dim3 grid_of(const Device& device, int64_t anchors, int64_t candidates,
             int64_t blocks_per_processor, Stripes& stripes) {
  const int64_t rows = tiles_of(anchors, Loop::kTileRows);
  const int64_t columns = tiles_of(candidates, Loop::kTileColumns);
  const int64_t wanted = std::max<int64_t>(1, blocks_per_processor * device.processors() / rows);
  const int64_t length = tiles_of(columns, std::min<int64_t>({wanted, columns, 65535}));
  stripes.tiles_per_stripe = int32_t(length);
  return dim3(unsigned(rows), unsigned(tiles_of(columns, length)), 1);
}

template <class T, class Epilogue>
void stream_by_differences(const char* name, const Device& device, const Pairs<T>& pairs,
                           const typename Epilogue::Arguments& to, Guard guard,
                           bool from_diagonal = false) {
  using Loop = FmaLoop<T>;
  if (pairs.anchors.count == 0 || pairs.candidates.count == 0) return;
  Stripes stripes{};
  const dim3 grid = grid_of<Loop>(device, pairs.anchors.count, pairs.candidates.count, 16, stripes);
  stripes.from_diagonal = from_diagonal;
  launch(name, sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads),
          size_t(Loop::kSharedBytes + Epilogue::shared_bytes(Loop::kTileRows))},
         pair_stream<Loop, Epilogue>, pairs, to, stripes, guard, Loop::kSharedBytes);
}

template <class In, class Epilogue>
void stream_by_products(const char* name, const Device& device, const Pairs<float>& pairs,
                        const SearchPlan& plan, const typename Epilogue::Arguments& to,
                        Guard guard) {
  using Loop = MmaLoop<In>;
  if (pairs.anchors.count == 0 || pairs.candidates.count == 0) return;
  Stripes stripes{};
  const dim3 grid = grid_of<Loop>(device, pairs.anchors.count, pairs.candidates.count, 8, stripes);
  // The anchors stay in shared memory where they fit.
  const int chunks = Loop::chunks(pairs.anchors.dim);
  const int rest = Epilogue::shared_bytes(Loop::kTileRows);
  const bool stay = Loop::shared_bytes(chunks) + rest <= device.shared_bytes();
  const MmaArguments arguments{pairs, plan.anchor_terms, plan.candidate_terms, stay ? chunks : 0};
  const int loop_bytes = Loop::shared_bytes(arguments.resident);
  launch(name, sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads), size_t(loop_bytes + rest)}, pair_stream<Loop, Epilogue>,
         arguments, to, stripes, guard, loop_bytes);
}

// Launches the main loop that the plan names. With products it launches the loop by differences
// too: on the device a guard lets one of the two run.
template <class Epilogue>
void stream(const char* name, const Device& device, const Pairs<float>& pairs,
            const SearchPlan& plan, const typename Epilogue::Arguments& to) {
  if (!plan.by_products) {
    stream_by_differences<float, Epilogue>(name, device, pairs, exact(to), {nullptr, 0});
    return;
  }
  const Guard products{&plan.flags->needs_direct, 0}, differences{&plan.flags->needs_direct, 1};
  switch (pairs.anchors.element) {
    case Element::kHalf:
      stream_by_products<__half, Epilogue>(name, device, pairs, plan, to, products);
      break;
    case Element::kBFloat16:
      stream_by_products<__nv_bfloat16, Epilogue>(name, device, pairs, plan, to, products);
      break;
    default:
      stream_by_products<float, Epilogue>(name, device, pairs, plan, to, products);
  }
  stream_by_differences<float, Epilogue>(name, device, pairs, exact(to), differences);
}

}  // namespace facenet::cuda
