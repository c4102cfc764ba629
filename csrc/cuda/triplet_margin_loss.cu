// triplet_margin_loss on CUDA: the loss over every triplet of a kind, and its gradient.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "common/labelled_operators.h"
#include "cuda/edges.h"
#include "cuda/epilogues/band.cuh"
#include "cuda/labelled_batch.h"
#include "cuda/loss_sums.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {
namespace {

// [slots] unless said.
template <class T>
struct BandArrays {
  int64_t anchors = 0, slots = 0, stripes = 0;
  bool smooth = false;
  T* d_ap = nullptr;               // NaN: not a pair
  T* threshold = nullptr;          // ascending within an anchor
  int32_t* positive_of = nullptr;  // of each threshold: the positive whose distance it is
  T* positive = nullptr;           // the weight of the edge to the positive
  int32_t* count = nullptr;        // [M] thresholds
  BandTotals<T> totals{};
  LossSums<T, int64_t> sums{};  // [M]
  T* scale = nullptr;           // [1]

  void place(Workspace& w) {
    d_ap = w.take<T>(slots);
    threshold = w.take<T>(slots);
    positive_of = w.take<int32_t>(slots);
    positive = w.take<T>(slots);
    count = w.take<int32_t>(anchors);
    totals = {w.take<CompensatedSum<T>>(stripes * anchors), w.take<int64_t>(stripes * anchors),
              w.take<int64_t>(stripes * anchors),           w.take<int32_t>(smooth ? 0 : slots),
              w.take<T>(smooth ? stripes * slots : 0),      slots};
    sums = {w.take<T>(anchors), w.take<int64_t>(anchors), w.take<int64_t>(anchors)};
    scale = w.take<T>(1);
  }
};

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

LossAndGradients triplet_margin_loss(const TripletMarginLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_emb = arguments.batch.ref_emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch, false);
    const Device& device = batch.device;
    const Pairs<T>& pairs = batch.pairs;
    const PushPass<T> pass(device, pairs.anchors, pairs.candidates);
    BandArrays<T> sizes;
    sizes.anchors = emb.size(0);
    sizes.slots = batch.slot_count;
    sizes.stripes = pass.stripes();
    sizes.smooth = arguments.smooth;
    const Scratch<BandArrays<T>> arrays(emb, sizes);
    const BandArrays<T>& all = arrays;
    const std::string shapes = sizes_of(pairs) + " slots=" + std::to_string(batch.slot_count);
    const LaunchShape by_anchor{blocks_of_warps(pairs.anchors.count), kBlock};

    if (pairs.anchors.count > 0) find_positives(device, pairs, batch.slots(), arrays.d_ap);
    launch("sort_positives", shapes, device.stream(), by_anchor, sort_positives<T>, batch.slots(),
           pairs.anchors.count, all);
    const BandAnchors<T> anchors{
        true,           batch.slots().offset, arrays.count, arrays.threshold, pairs.class_begin,
        pairs.class_end};
    const BandAnchors<T> none{};
    const auto run = [&](const PushPass<T>& over, const Rows<T>& rows, const BandAnchors<T>& own,
                         const BandAnchors<T>& others, const Tensor& partial) {
      const bool counts = arguments.reduction == Reduction::kMean;
      const BandArguments<T> band{
          arguments.kind, T(arguments.margin), arguments.smooth, counts,       own,
          others,         arrays.totals,       rows.count,       rows.distance};
      over.template run<BandWeights<T>>("band", band, over.data(partial));
    };
    const Tensor emb_partial = pass.partial_gradient(emb, arguments.emb_grad);
    run(pass, pairs.anchors, anchors, pairs.self ? anchors : none, emb_partial);
    const bool of_candidates = arguments.ref_grad;
    const PushPass<T> other_pass(device, pairs.candidates, pairs.anchors);
    const Tensor ref_partial = other_pass.partial_gradient(emb, of_candidates);
    if (of_candidates) run(other_pass, pairs.candidates, none, anchors, ref_partial);

    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    launch("finish_anchors", shapes, device.stream(), by_anchor, finish_anchors<T>, batch.slots(),
           pairs.anchors.count, arguments.batch.distance, T(arguments.margin), all);
    launch("reduce_losses", shapes, device.stream(), {1, kReduceThreads}, reduce_losses<T, int64_t>,
           arrays.sums, pairs.anchors.count, arguments.reduction, batch.flags(),
           batch.class_sizes(), static_cast<T*>(loss.data_ptr()), arrays.scale,
           static_cast<double*>(totals.data_ptr()));

    Tensor emb_out = empty_gradient(emb, kValueType<T>, arguments.emb_grad, emb.size(0));
    Tensor ref_out =
        empty_gradient(emb, kValueType<T>, of_candidates, ref_emb ? ref_emb->size(0) : 0);
    Gathered<T> g{};
    g.slot_edges.slots = batch.slots();
    g.slot_edges.positive = arrays.positive;
    g.slot_edges.class_begin = pairs.class_begin;
    g.anchors_begin = batch.anchor_classes().begin;
    g.anchors_end = batch.anchor_classes().end;
    g.scale = arrays.scale;
    const auto gather_side = [&](const PushPass<T>& from, const Tensor& partial, bool as_candidates,
                                 Tensor& out) {
      from.add_to(g, partial);
      g.as_candidates = as_candidates;
      g.as_anchors = !as_candidates || pairs.self;
      gather(device, g, static_cast<T*>(out.data_ptr()));
    };
    if (arguments.emb_grad) gather_side(pass, emb_partial, pairs.self, emb_out);
    if (of_candidates) gather_side(other_pass, ref_partial, true, ref_out);
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("triplet_margin_loss", TORCH_BOX(&front::triplet_margin_loss<triplet_margin_loss>));
}

}  // namespace facenet::cuda
