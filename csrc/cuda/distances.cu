#include "cuda/distances.h"
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
  stream_by_differences<T, StoreEpilogue<T>>("all distances", device, pairs, {out, pairs.self},
                                             Guard{}, pairs.self);
}

template void find_positives(const Device&, const Pairs<float>&, const Slots&, float*);
template void find_positives(const Device&, const Pairs<double>&, const Slots&, double*);
template void store_distances(const Device&, const Pairs<float>&, float*);
template void store_distances(const Device&, const Pairs<double>&, double*);

}  // namespace facenet::cuda
