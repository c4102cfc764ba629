// mined_triplet_loss on CUDA: the losses of anchors, from what was selected.
#include "cuda/anchor_loss.cuh"
#include "cuda/launch.h"

namespace facenet::cuda {
namespace {

constexpr int kThreads = 32 * kAnchorsOfLosses;  // a warp for each bit

// A warp per anchor. Shared memory: the bits of the block's anchors, where wanted.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    anchor_losses(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                  const AnchorLosses<T> to, T* slopes) {
  uint32_t* const bits = reinterpret_cast<uint32_t*>(dynamic_shared_memory());
  const PushBits& pushes = to.edges.pushes;
  const int32_t words = pushes.words == nullptr ? 0 : pushes.row_words;
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kThreads) bits[k] = 0;
  __syncthreads();
  if (warp_number() < pairs.anchors.count) {
    const int32_t i = int32_t(warp_number());
    const int64_t offset = slots.offset[i];
    const AnchorChoices<T> found{slots.count[i],
                                 selection.bucket_count[i],
                                 selection.d_ap + offset,
                                 selection.choice + offset,
                                 selection.bucket.behind(offset),
                                 selection.farthest.behind(i)};
    anchor_loss(i, pairs, offset, int32_t(slots.offset[i + 1] - offset), found, to, slopes + offset,
                [&](uint32_t row) {
                  if (words > 0) mark_push(bits, row, int(threadIdx.x) / 32);
                });
  }
  __syncthreads();
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kThreads) {
    pushes.words[int64_t(blockIdx.x) * words + k] = bits[k];
  }
}

}  // namespace

template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, const AnchorLosses<T>& to, T* slopes) {
  const PushBits& pushes = to.edges.pushes;
  const int64_t blocks = (int64_t(pairs.anchors.count) + kAnchorsOfLosses - 1) / kAnchorsOfLosses;
  launch("anchor_losses", sizes_of(pairs).with("slots", selection.slots), device.stream(),
         {unsigned(blocks), kThreads,
          pushes.words == nullptr ? 0 : size_t(pushes.row_words) * sizeof(uint32_t)},
         anchor_losses<T>, pairs, slots, selection, to, slopes);
}

template void find_anchor_losses(const Device&, const Pairs<float>&, const Slots&,
                                 const SelectionArrays<float>&, const AnchorLosses<float>&, float*);
template void find_anchor_losses(const Device&, const Pairs<double>&, const Slots&,
                                 const SelectionArrays<double>&, const AnchorLosses<double>&,
                                 double*);

}  // namespace facenet::cuda
