#include "cuda/epilogues/positives.cuh"
#include "cuda/epilogues/store.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

template <class T>
void find_positives(const Device& device, const Pairs<T>& pairs, const Slots& slots, T* d_ap) {
  using Loop = FmaLoop<T>;
  const dim3 grid(unsigned(tiles_of(pairs.anchors.count, Loop::kTileRows)));
  launch("distances of positives", sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads), size_t(Loop::kSharedBytes)},
         pair_stream<Loop, PositivesEpilogue<T>>, pairs,
         typename PositivesEpilogue<T>::Arguments{slots, d_ap}, Stripes{}, Guard{},
         Loop::kSharedBytes);
}

template <class T>
void store_distances(const Device& device, const Pairs<T>& pairs, T* out) {
  using Loop = FmaLoop<T>;
  if (pairs.anchors.count == 0 || pairs.candidates.count == 0) return;
  Stripes stripes{};
  const dim3 grid = grid_of<Loop>(device, pairs.anchors.count, pairs.candidates.count, 16, stripes);
  stripes.from_diagonal = pairs.self;
  launch("all distances", sizes_of(pairs), device.stream(),
         {grid, dim3(Loop::kThreads), size_t(Loop::kSharedBytes)},
         pair_stream<Loop, StoreEpilogue<T>>, pairs,
         typename StoreEpilogue<T>::Arguments{out, pairs.self}, stripes, Guard{},
         Loop::kSharedBytes);
}

template void find_positives(const Device&, const Pairs<float>&, const Slots&, float*);
template void find_positives(const Device&, const Pairs<double>&, const Slots&, double*);
template void store_distances(const Device&, const Pairs<float>&, float*);
template void store_distances(const Device&, const Pairs<double>&, double*);

}  // namespace facenet::cuda
