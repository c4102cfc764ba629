// select_triplets on CUDA: the kernels that list a selection.
#include "cuda/cub.h"
#include "cuda/launch.h"
#include "cuda/select_triplets.h"
#include "cuda/warp.cuh"
#include "cuda/workspace.h"

namespace facenet::cuda {
namespace {

// A warp per anchor -> how many triplets it has, [M + 1] by the caller's anchor; the last is 0.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    triplets_of_anchors(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                        int64_t* counts) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  int32_t triplets = 0;
  for (int32_t k = lane(); k < slots.count[i]; k += 32) {
    triplets += selection.selected(slots.offset[i] + k);
  }
  triplets = warp_sum(triplets);
  if (lane() != 0) return;
  counts[pairs.anchors.row(int32_t(i))] = triplets;
  if (i == 0) counts[pairs.anchors.count] = 0;
}

// A warp per anchor writes its triplets, by ascending positive: the order of its slots.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    write_triplets(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                   const int64_t* first, const TripletList<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int32_t anchor = pairs.anchors.row(int32_t(i));
  const int64_t offset = slots.offset[i];
  int64_t next = first[anchor];
  for (int32_t base = 0; base < slots.count[i]; base += 32) {
    const int64_t slot = offset + base + lane();
    const bool there = base + lane() < slots.count[i] && selection.selected(slot);
    const uint32_t all = __ballot_sync(kAllLanes, there);
    if (there) {
      const int64_t t = next + __popc(all & ((1u << lane()) - 1));
      to.anchor[t] = anchor;
      to.positive[t] = pairs.candidates.row(pairs.class_begin[i] + base + lane());
      to.negative[t] = selection.negative(int32_t(i), offset, slot);
      to.d_ap[t] = selection.d_ap[slot];
      to.d_an[t] = selection.d_an(int32_t(i), offset, slot);
    }
    next += __popc(all);
  }
}

}  // namespace

template <class T>
int64_t count_triplets(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                       const SelectionArrays<T>& selection, int64_t* first) {
  const int64_t anchors = pairs.anchors.count;
  if (anchors == 0) return 0;
  const Memory memory(device, size_t(anchors + 1) * sizeof(int64_t));
  int64_t* const counts = reinterpret_cast<int64_t*>(memory.data());
  launch("count_triplets", sizes_of(pairs).with("slots", selection.slots), device.stream(),
         {blocks_of_warps(anchors), kBlock}, triplets_of_anchors<T>, pairs, slots, selection,
         counts);
  add_up(device, anchors + 1, counts, first);
  int64_t total = 0;
  check_cuda(cudaMemcpyAsync(&total, first + anchors, sizeof total, cudaMemcpyDeviceToHost,
                             device.stream()),
             "reading the number of triplets");
  check_cuda(cudaStreamSynchronize(device.stream()), "reading the number of triplets");
  return total;
}

template <class T>
void list_triplets(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                   const SelectionArrays<T>& selection, const int64_t* first,
                   const TripletList<T>& to) {
  launch("list_triplets", sizes_of(pairs).with("slots", selection.slots), device.stream(),
         {blocks_of_warps(pairs.anchors.count), kBlock}, write_triplets<T>, pairs, slots, selection,
         first, to);
}

template int64_t count_triplets(const Device&, const Pairs<float>&, const Slots&,
                                const SelectionArrays<float>&, int64_t*);
template int64_t count_triplets(const Device&, const Pairs<double>&, const Slots&,
                                const SelectionArrays<double>&, int64_t*);
template void list_triplets(const Device&, const Pairs<float>&, const Slots&,
                            const SelectionArrays<float>&, const int64_t*,
                            const TripletList<float>&);
template void list_triplets(const Device&, const Pairs<double>&, const Slots&,
                            const SelectionArrays<double>&, const int64_t*,
                            const TripletList<double>&);

}  // namespace facenet::cuda
