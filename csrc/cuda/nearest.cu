// nearest on CUDA: the pair stream with the nearest epilogue, and a merge of the stripes' lists.
#include "cuda/epilogues/nearest.cuh"
#include "cuda/nearest.h"
#include "cuda/search.cuh"
#include "cuda/workspace.h"

namespace facenet::cuda {
namespace {

constexpr int kMergeThreads = 128;

template <class T>
struct ListArrays {
  int64_t entries = 0;
  T* distance = nullptr;
  int32_t* index = nullptr;

  void place(Workspace& w) {
    distance = w.take<T>(entries);
    index = w.take<int32_t>(entries);
  }
};

// A thread for each anchor begins with the first stripe's list, and offers it the others' entries.
// Reads `lists` [stripes, M, k]; writes out_distance, out_index [M, k].
template <class T>
__global__ void merge_lists(ListArrays<T> lists, int32_t anchors, int32_t k, int32_t stripes,
                            T* out_distance, int64_t* out_index) {
  const int32_t anchor = int32_t(blockIdx.x) * kMergeThreads + int32_t(threadIdx.x);
  if (anchor >= anchors) return;
  const int64_t row = int64_t(anchor) * k, stripe = int64_t(anchors) * k;
  const T* distances = lists.distance + row;
  const int32_t* indices = lists.index + row;
  T* const nearest = out_distance + row;
  int64_t* const nearest_index = out_index + row;
  for (int32_t e = 0; e < k; ++e) {
    nearest[e] = distances[e];
    nearest_index[e] = indices[e];
  }
  for (int64_t s = 1; s < stripes; ++s) {
    for (int32_t e = 0; e < k && indices[s * stripe + e] >= 0; ++e) {
      const T d = distances[s * stripe + e];
      if (d > nearest[k - 1]) break;
      offer_nearest(d, int64_t(indices[s * stripe + e]), k, nearest, nearest_index);
    }
  }
}

}  // namespace

template <class T>
void find_nearest(const Device& device, const Pairs<T>& pairs, int64_t k, T* distances,
                  int64_t* indices) {
  using Loop = FmaLoop<T>;
  using Epilogue = NearestEpilogue<T>;
  const int64_t anchors = pairs.anchors.count;
  if (anchors == 0) return;
  Stripes stripes{};
  // A list for each stripe: fewer of them than where nothing is kept.
  const dim3 grid = grid_of(device, pairs, Loop::kTileRows, Loop::kTileColumns, 8, stripes);
  ListArrays<T> sizes;
  sizes.entries = int64_t(grid.y) * anchors * k;
  const Scratch<ListArrays<T>> lists(device, sizes);
  launch("nearest", sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads),
          size_t(Loop::kSharedBytes + Epilogue::shared_bytes(Loop::kTileRows))},
         pair_stream<Loop, Epilogue>, pairs,
         typename Epilogue::Arguments{int32_t(k), lists.distance, lists.index}, stripes, Guard{},
         Loop::kSharedBytes);
  launch("merging lists", sizes_of(pairs), device.stream(),
         {dim3(unsigned(tiles_of(anchors, kMergeThreads))), dim3(kMergeThreads)}, merge_lists<T>,
         static_cast<const ListArrays<T>&>(lists), int32_t(anchors), int32_t(k), int32_t(grid.y),
         distances, indices);
}

template void find_nearest(const Device&, const Pairs<float>&, int64_t, float*, int64_t*);
template void find_nearest(const Device&, const Pairs<double>&, int64_t, double*, int64_t*);

}  // namespace facenet::cuda
