// mined_triplet_loss on CUDA: selection, loss and gradient without listing triplets.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/edges.h"
#include "cuda/labelled_batch.h"
#include "cuda/launch.h"
#include "cuda/loss_sums.cuh"
#include "cuda/selection.h"
#include "cuda/warp.cuh"
#include "semantics/hinge.h"

namespace facenet::cuda {
namespace {

// What the gradient is made of: see SlotEdges of edges.h.
template <class T>
struct EdgeArrays {
  T* positive;        // [slots] the weight of the edge to the positive
  uint32_t* row;      // [slots + M] the row that an edge pushes besides its anchor,
  Edge<T>* incoming;  // [slots + M] and that edge
};

template <class T>
struct LossArrays {
  int64_t anchors = 0, slots = 0, edges = 0;
  bool gradient = false;
  LossSums<T, int32_t> sums{};
  EdgeArrays<T> of{};
  uint32_t* sorted_row = nullptr;
  Edge<T>* sorted_edge = nullptr;
  T* scale = nullptr;

  void place(Workspace& w) {
    sums = {w.take<T>(anchors), w.take<int32_t>(anchors), w.take<int32_t>(anchors)};
    scale = w.take<T>(1);
    if (!gradient) return;
    edges = slots + anchors;
    of = {w.take<T>(slots), w.take<uint32_t>(edges), w.take<Edge<T>>(edges)};
    sorted_row = w.take<uint32_t>(edges);
    sorted_edge = w.take<Edge<T>>(edges);
  }
};

// A warp per anchor: the hinges of its triplets, added up in a fixed order; with `gradient` their
// slopes [slots], which no other kernel reads, and the anchor's edges. The triplets that share a
// negative share one edge to it.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    anchor_losses(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                  const T margin, const bool smooth, const bool gradient,
                  const LossSums<T, int32_t> sums, T* slopes, const EdgeArrays<T> to,
                  const int64_t slot_total) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
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
    put(slot_total + i, there, there ? selection.farthest.row(i) : 0,
        there ? -farthest_slopes * distance_slope(kind, selection.farthest.farther_distance(i))
              : T(0));
  }
  for (int32_t k = lane(); k < count; k += 32) {
    const T slope = slopes[offset + k];
    to.positive[offset + k] =
        slope != T(0) ? slope * distance_slope(kind, selection.d_ap[offset + k]) : T(0);
  }
}

LossAndGradients mined_triplet_loss(const MinedTripletLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_emb = arguments.batch.ref_emb;
  const TripletRule& rule = arguments.rule;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch, !is_random(rule.negatives));
    const Device& device = batch.device;
    const Pairs<T>& pairs = batch.pairs;
    std::optional<Selection<T>> selection(std::in_place, batch, rule);
    const bool gradient = arguments.emb_grad || arguments.ref_grad;
    LossArrays<T> sizes;
    sizes.anchors = emb.size(0);
    sizes.slots = batch.slot_count;
    sizes.gradient = gradient;
    const Scratch<LossArrays<T>> arrays(emb, sizes);
    const std::string shapes = "M=" + std::to_string(pairs.anchors.count) +
                               " N=" + std::to_string(pairs.candidates.count) +
                               " slots=" + std::to_string(batch.slot_count);
    {
      const Tensor slopes =
          torch::stable::new_empty(emb, {gradient ? batch.slot_count : 0}, kValueType<T>);
      launch("anchor_losses", shapes, device.stream(),
             {blocks_of_warps(pairs.anchors.count), kBlock}, anchor_losses<T>, pairs, batch.slots(),
             selection->arrays(), T(rule.margin), arguments.smooth, gradient, arrays.sums,
             static_cast<T*>(slopes.data_ptr()), arrays.of, batch.slot_count);
    }
    selection.reset();  // The gradient takes the most memory by far: its arrays are freed before.

    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    launch("reduce_losses", shapes, device.stream(), {1, kReduceThreads}, reduce_losses<T, int32_t>,
           arrays.sums, pairs.anchors.count, arguments.reduction, batch.flags(),
           batch.class_sizes(), static_cast<T*>(loss.data_ptr()), arrays.scale,
           static_cast<double*>(totals.data_ptr()));

    Tensor emb_out = empty_gradient(emb, kValueType<T>, arguments.emb_grad, emb.size(0));
    Tensor ref_out =
        empty_gradient(emb, kValueType<T>, arguments.ref_grad, ref_emb ? ref_emb->size(0) : 0);
    if (!gradient) return {loss, emb_out, ref_out, totals};

    const bool incoming = pairs.self || arguments.ref_grad;
    if (incoming) {
      sort_edges<T>(device, emb, pairs.candidates.count,
                    {arrays.of.row, arrays.of.incoming, arrays.edges}, arrays.sorted_row,
                    arrays.sorted_edge);
    }
    const EdgeList<T> sorted{arrays.sorted_row, arrays.sorted_edge, arrays.edges};
    Gathered<T> g{};
    g.slot_edges = {batch.slots(),      arrays.of.positive, arrays.of.row,
                    arrays.of.incoming, batch.slot_count,   pairs.class_begin};
    g.anchors_begin = batch.anchor_classes().begin;
    g.anchors_end = batch.anchor_classes().end;
    g.scale = arrays.scale;
    if (arguments.emb_grad) {
      g.rows = pairs.anchors;
      g.others = pairs.candidates;
      g.as_anchors = true;
      g.as_candidates = pairs.self;
      if (pairs.self) g.incoming = sorted;
      gather(device, g, static_cast<T*>(emb_out.data_ptr()));
    }
    if (arguments.ref_grad) {
      g.rows = pairs.candidates;
      g.others = pairs.anchors;
      g.as_anchors = false;
      g.as_candidates = true;
      g.incoming = sorted;
      gather(device, g, static_cast<T*>(ref_out.data_ptr()));
    }
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("mined_triplet_loss", TORCH_BOX(&front::mined_triplet_loss<mined_triplet_loss>));
}

}  // namespace facenet::cuda
