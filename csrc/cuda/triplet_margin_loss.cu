// triplet_margin_loss on CUDA: a pass over all pairs, and what comes before and after it.
#include "cuda/epilogues/band.cuh"
#include "cuda/triplet_margin_loss.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

// A warp per anchor: its positive distances in ascending order, and totals of nothing.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    sort_positives(const Slots slots, const int32_t anchors, const BandArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= anchors) return;
  const int64_t offset = slots.offset[i];
  const int32_t count = slots.count[i];
  const T* d_ap = to.d_ap + offset;
  int32_t thresholds = 0;
  for (int32_t base = 0; base < count; base += 32) {
    const int32_t k = base + lane();
    const T d = k < count ? d_ap[k] : T(NAN);
    const bool counts = d == d;
    if (k < count) {
      int32_t rank = 0;
      for (int32_t m = 0; m < count && counts; ++m) rank += d_ap[m] < d || (d_ap[m] == d && m < k);
      if (counts) to.threshold[offset + rank] = d;
      if (counts) to.positive_of[offset + rank] = k;
      to.positive[offset + k] = 0;  // stays of what is not a pair
      if (!to.smooth) to.totals.entering[offset + k] = 0;
      for (int64_t s = 0; s < to.stripes && to.smooth; ++s) {
        to.totals.weight[s * to.slots + offset + k] = 0;
      }
    }
    thresholds += __popc(__ballot_sync(kAllLanes, counts));
  }
  if (lane() == 0) to.count[i] = thresholds;
  for (int64_t s = lane(); s < to.stripes; s += 32) {
    to.totals.loss[s * anchors + i] = {};
    to.totals.active[s * anchors + i] = 0;
    to.totals.counted[s * anchors + i] = 0;
  }
}

// A warp per anchor: the stripes' totals become the anchor's loss and the weights of the edges to
// its positives, always added up in the same order.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    finish_anchors(const Slots slots, const int32_t anchors, const Distance kind, const T margin,
                   const BandArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= anchors) return;
  const int64_t offset = slots.offset[i];
  const int32_t count = to.count[i];
  CompensatedSum<T> loss;
  int64_t active = 0, counted = 0;
#pragma unroll 1
  for (int64_t s = lane(); s < to.stripes; s += 32) {
    loss.add(to.totals.loss[s * anchors + i]);
    active += to.totals.active[s * anchors + i];
    counted += to.totals.counted[s * anchors + i];
  }
  // 32 positives at a time, in ascending order.
  int32_t before = 0;  // triplets of the positive ahead
  for (int32_t base = 0; base < count; base += 32) {
    const int32_t k = base + lane();
    const bool there = k < count;
    T weight = 0;
    if (to.smooth) {
#pragma unroll 1
      for (int64_t s = 0; s < to.stripes && there; ++s) {
        weight += to.totals.weight[s * to.slots + offset + k];
      }
    } else {
      int32_t triplets = there ? to.totals.entering[offset + k] : 0;
#pragma unroll
      for (int apart = 1; apart < 32; apart *= 2) {
        const int32_t other = __shfl_up_sync(kAllLanes, triplets, apart);
        if (lane() >= apart) triplets += other;
      }
      triplets += before;
      before = __shfl_sync(kAllLanes, triplets, 31);
      weight = T(triplets);
      if (there && triplets > 0) loss.add_product(weight, to.threshold[offset + k]);
    }
    if (there) {
      to.positive[offset + to.positive_of[offset + k]] =
          weight * distance_slope(kind, to.threshold[offset + k]);
    }
  }
  loss = warp_sum(loss);
  active = warp_sum(active);
  counted = warp_sum(counted);
  if (lane() == 0) {
    if (!to.smooth && active > 0) loss.add_product(T(active), margin);
    to.sums.loss[i] = loss.value();
    to.sums.triplets[i] = counted;
    to.sums.nonzero[i] = active;
  }
}

}  // namespace

template <class T>
void begin_bands(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                 const BandArrays<T>& to) {
  launch("sort_positives", sizes_of(pairs).with("slots", to.slots), device.stream(),
         {blocks_of_warps(pairs.anchors.count), kBlock}, sort_positives<T>, slots,
         pairs.anchors.count, to);
}

template <class T>
void push_bands(const PushPass<T>& pass, const BandArguments<T>& band, T* gradient) {
  push<BandWeights<T>>("band", pass, band, gradient);
}

template <class T>
void finish_bands(const Device& device, const Pairs<T>& pairs, const Slots& slots, double margin,
                  const BandArrays<T>& to) {
  launch("finish_anchors", sizes_of(pairs).with("slots", to.slots), device.stream(),
         {blocks_of_warps(pairs.anchors.count), kBlock}, finish_anchors<T>, slots,
         pairs.anchors.count, pairs.anchors.distance, T(margin), to);
}

template void begin_bands(const Device&, const Pairs<float>&, const Slots&,
                          const BandArrays<float>&);
template void begin_bands(const Device&, const Pairs<double>&, const Slots&,
                          const BandArrays<double>&);
template void push_bands(const PushPass<float>&, const BandArguments<float>&, float*);
template void push_bands(const PushPass<double>&, const BandArguments<double>&, double*);
template void finish_bands(const Device&, const Pairs<float>&, const Slots&, double,
                           const BandArrays<float>&);
template void finish_bands(const Device&, const Pairs<double>&, const Slots&, double,
                           const BandArrays<double>&);

}  // namespace facenet::cuda
