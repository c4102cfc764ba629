// mined_triplet_loss on CUDA: the losses of anchors, from what was selected.
#include "cuda/anchor_loss.cuh"
#include "cuda/launch.h"

namespace facenet::cuda {
namespace {

constexpr int kThreads = 32 * kAnchorsOfLosses;  // a warp for each bit

// A warp per anchor. Shared memory: the cells of the block's anchors, where wanted.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    anchor_losses(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                  const AnchorLosses<T> to, T* slopes) {
  PushCell* const cells = reinterpret_cast<PushCell*>(dynamic_shared_memory());
  const PushTable<T>& pushes = to.edges.pushes;
  const int32_t cell_count = pushes.cells == nullptr ? 0 : pushes.row_cells;
  for (int32_t k = int32_t(threadIdx.x); k < cell_count; k += kThreads) cells[k] = {};
  __syncthreads();
  const int warp = int(threadIdx.x) / 32;
  const int32_t i = int32_t(blockIdx.x) * kAnchorsOfLosses + warp;
  const bool there = i < pairs.anchors.count;
  if (there) {
    const int64_t offset = slots.offset[i];
    const AnchorChoices<T> found{slots.count[i],
                                 selection.bucket_count[i],
                                 selection.d_ap + offset,
                                 selection.choice + offset,
                                 selection.bucket.behind(offset),
                                 selection.farthest.behind(i)};
    const AnchorSums<T> sums =
        anchor_loss(i, pairs, offset, int32_t(slots.offset[i + 1] - offset), found, to,
                    slopes + offset, [&](int32_t, const Push<T>& push) {
                      if (cell_count > 0 && push.row != kNoRow) mark_push(cells, push.row, warp);
                    });
    if (lane() == 0) {
      to.sums.loss[i] = sums.loss;
      to.sums.triplets[i] = sums.triplets;
      to.sums.nonzero[i] = sums.nonzero;
    }
  }
  if (cell_count == 0) return;
  __syncthreads();
  const int32_t first = int32_t(blockIdx.x) * kAnchorsOfLosses;
  const int32_t begin = int32_t(slots.offset[first]) + first;  // as many slots as there are before
  number_pushes<kThreads>(cells, int32_t(blockIdx.x), begin, pushes);
  __syncthreads();
  if (!there) return;
  const EdgeArrays<T>& edges = to.edges;
  const int64_t offset = slots.offset[i];
  const int32_t room = int32_t(slots.offset[i + 1] - offset);
  const auto get = [&](int32_t k) {
    const int64_t at = k < room ? offset + k : edges.slots + i;
    return Push<T>{edges.row[at], edges.weight[at]};
  };
  place_pushes(cells, warp, room, to.repeats, get, pushes.weight + begin);
}

}  // namespace

template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, const AnchorLosses<T>& to, T* slopes) {
  const PushTable<T>& pushes = to.edges.pushes;
  const int64_t blocks = (int64_t(pairs.anchors.count) + kAnchorsOfLosses - 1) / kAnchorsOfLosses;
  launch("anchor_losses", sizes_of(pairs).with("slots", selection.slots), device.stream(),
         {unsigned(blocks), kThreads,
          pushes.cells == nullptr ? 0 : size_t(pushes.row_cells) * sizeof(PushCell)},
         anchor_losses<T>, pairs, slots, selection, to, slopes);
}

template void find_anchor_losses(const Device&, const Pairs<float>&, const Slots&,
                                 const SelectionArrays<float>&, const AnchorLosses<float>&, float*);
template void find_anchor_losses(const Device&, const Pairs<double>&, const Slots&,
                                 const SelectionArrays<double>&, const AnchorLosses<double>&,
                                 double*);

}  // namespace facenet::cuda
