// Launches of the pair stream, with stripes that fill the device and shared memory that fits it.
#pragma once

#include "cuda/fma_loop.cuh"
#include "cuda/mma_loop.cuh"
#include "cuda/pair_grid.h"
#include "cuda/pair_stream.cuh"
#include "cuda/search.h"

namespace facenet::cuda {

template <class T, class Epilogue>
void stream_by_differences(const char* name, const Device& device, const Pairs<T>& pairs,
                           const typename Epilogue::Arguments& to, Guard guard,
                           bool from_diagonal = false) {
  using Loop = FmaLoop<T>;
  if (pairs.anchors.count == 0 || pairs.candidates.count == 0) return;
  Stripes stripes{};
  const dim3 grid = grid_of(device, pairs, Loop::kTileRows, Loop::kTileColumns, 16, stripes);
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
  const dim3 grid = grid_of(device, pairs, Loop::kTileRows, Loop::kTileColumns, 8, stripes);
  const int rest = Epilogue::shared_bytes(Loop::kTileRows);
  const int resident = Loop::resident(pairs.anchors.dim, rest, device.shared_bytes());
  const MmaArguments arguments{pairs, plan.anchors, plan.candidates, resident};
  const int loop_bytes = Loop::shared_bytes(arguments.resident);
  launch(name, sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads), size_t(loop_bytes + rest)}, pair_stream<Loop, Epilogue>,
         arguments, to, stripes, guard, loop_bytes);
}

// Launches the main loop that the plan names. With products it launches the loop by differences
// too: on the device a guard lets one of the two run.
template <class Epilogue, class ByDifferences = Epilogue>
void stream(const char* name, const Device& device, const Pairs<float>& pairs,
            const SearchPlan& plan, const typename Epilogue::Arguments& to) {
  if (!plan.by_products) {
    stream_by_differences<float, ByDifferences>(name, device, pairs, exact(to), {nullptr, 0});
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
  stream_by_differences<float, ByDifferences>(name, device, pairs, exact(to), differences);
}

}  // namespace facenet::cuda
