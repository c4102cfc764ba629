// mined_triplet_loss on CUDA: the losses of anchors, from what was selected.
#include "cuda/launch.h"
#include "cuda/mined_triplet_loss.h"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"
#include "semantics/hinge.h"

namespace facenet::cuda {
namespace {

// By a warp for an anchor: the hinges of its triplets, added up in a fixed order; with `gradient`
// their slopes [slots], which no other kernel reads, and the anchor's edges. The triplets that
// share a negative share one edge to it. pushes(row) is called for the row of every edge to a
// negative.
template <class T, class Pushes>
__device__ void anchor_loss(const int64_t i, const Pairs<T>& pairs, const Slots& slots,
                            const SelectionArrays<T>& selection, const T margin, const bool smooth,
                            const bool gradient, const LossSums<T, int32_t>& sums, T* slopes,
                            const EdgeArrays<T>& to, const Pushes& pushes) {
  const int64_t offset = slots.offset[i], end = slots.offset[i + 1];
  const int32_t count = slots.count[i], buckets = selection.bucket_count[i];
  const Distance kind = pairs.anchors.distance;
  T loss = 0, farthest_slopes = 0;
  int32_t triplets = 0, nonzero = 0;
  for (int32_t k = lane(); k < count; k += 32) {
    const int64_t slot = offset + k;
    T slope = 0;
    if (selection.selected(slot)) {
      const T d_an = selection.d_an(int32_t(i), offset, slot);
      const T v = selection.d_ap[slot] - d_an + margin;
      const T h = hinge(v, smooth);
      loss += h;
      triplets += 1;
      nonzero += smooth || h > T(0);  // softplus is positive, whatever it rounds to
      slope = hinge_slope(v, smooth);
      if (selection.choice[slot] == kFarthest) farthest_slopes += slope;
    }
    if (gradient) slopes[slot] = slope;
  }
  loss = warp_sum(loss);
  triplets = warp_sum(triplets);
  nonzero = warp_sum(nonzero);
  farthest_slopes = warp_sum(farthest_slopes);
  if (lane() == 0) {
    sums.loss[i] = loss;
    sums.triplets[i] = triplets;
    sums.nonzero[i] = nonzero;
  }
  if (!gradient) return;
  __syncwarp();
  const int32_t row = pairs.anchors.row(int32_t(i));
  const auto put = [&](int64_t at, bool there, uint32_t negative, T weight) {
    if (there) pushes(negative);
    to.row[at] = there ? negative : kNoRow;
    to.incoming[at] = {row, there ? weight : T(0)};
  };
  for (int32_t k = lane(); k < int32_t(end - offset); k += 32) {
    const int64_t slot = offset + k;
    T sum = 0;
    if (k < buckets && selection.bucket.has(slot)) {
      for (int32_t other = 0; other < count; ++other) {
        if (selection.choice[offset + other] == k) sum += slopes[offset + other];
      }
    }
    const bool there = sum != T(0);
    put(slot, there, there ? selection.bucket.row(slot) : 0,
        there ? -sum * distance_slope(kind, selection.bucket.closer_distance(slot)) : T(0));
  }
  if (lane() == 0) {
    const bool there = farthest_slopes != T(0);
    put(selection.slots + i, there, there ? selection.farthest.row(i) : 0,
        there ? -farthest_slopes * distance_slope(kind, selection.farthest.farther_distance(i))
              : T(0));
  }
  for (int32_t k = lane(); k < count; k += 32) {
    const T slope = slopes[offset + k];
    to.positive[offset + k] =
        slope != T(0) ? slope * distance_slope(kind, selection.d_ap[offset + k]) : T(0);
  }
}

// A warp per anchor, so that a block has the bits of a byte. Shared memory: these, where wanted.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    anchor_losses(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                  const T margin, const bool smooth, const bool gradient,
                  const LossSums<T, int32_t> sums, T* slopes, const EdgeArrays<T> to) {
  static_assert(kBlock == 32 * PushBits::kAnchors, "a warp for each bit");
  uint32_t* const bits = reinterpret_cast<uint32_t*>(dynamic_shared_memory());
  const int32_t words = to.pushes.words == nullptr ? 0 : to.pushes.row_words;
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kBlock) bits[k] = 0;
  __syncthreads();
  if (warp_number() < pairs.anchors.count) {
    anchor_loss(warp_number(), pairs, slots, selection, margin, smooth, gradient, sums, slopes, to,
                [&](uint32_t row) {
                  const uint32_t bit = 8 * (row % 4) + threadIdx.x / 32;
                  if (words > 0) atomicOr(bits + row / 4, 1u << bit);
                });
  }
  __syncthreads();
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kBlock) {
    to.pushes.words[int64_t(blockIdx.x) * words + k] = bits[k];
  }
}

}  // namespace

template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, double margin, bool smooth,
                        bool gradient, const LossSums<T, int32_t>& sums, T* slopes,
                        const EdgeArrays<T>& to) {
  launch("anchor_losses", sizes_of(pairs).with("slots", selection.slots), device.stream(),
         {blocks_of_warps(pairs.anchors.count), kBlock,
          to.pushes.words == nullptr ? 0 : size_t(to.pushes.row_words) * sizeof(uint32_t)},
         anchor_losses<T>, pairs, slots, selection, T(margin), smooth, gradient, sums, slopes, to);
}

template void find_anchor_losses(const Device&, const Pairs<float>&, const Slots&,
                                 const SelectionArrays<float>&, double, bool, bool,
                                 const LossSums<float, int32_t>&, float*, const EdgeArrays<float>&);
template void find_anchor_losses(const Device&, const Pairs<double>&, const Slots&,
                                 const SelectionArrays<double>&, double, bool, bool,
                                 const LossSums<double, int32_t>&, double*,
                                 const EdgeArrays<double>&);

}  // namespace facenet::cuda
