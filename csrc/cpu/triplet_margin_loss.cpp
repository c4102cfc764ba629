// triplet_margin_loss on the CPU: the loss over every triplet of a kind, and its gradient.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <limits>

#include "common/labelled_operators.h"
#include "cpu/edges.h"
#include "cpu/labelled_batch.h"
#include "cpu/loss_totals.h"
#include "cpu/parallel.h"
#include "cpu/selection.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kAnchorGrain = 64;

// The positives of each anchor in ascending order, as the band kernel reads them, and what it
// leaves in their slots.
template <class T>
struct BandSlots {
  PositiveSlots<T> positives;
  Buffer<int32_t> rank;  // [slots] of each positive; its place among the thresholds is one more
  Buffer<T> threshold;
  Buffer<T> reach;
  Buffer<int32_t> entering;
  Buffer<T> weight;  // [slots] by place: triplets of the positive, or the sum of their slopes
  Buffer<double> negatives;
  Buffer<int64_t> active, counted;

  BandSlots(const PairSet<T>& set, T margin)
      : positives(set.anchors().count()),
        negatives(set.anchors().count()),
        active(set.anchors().count()),
        counted(set.anchors().count()) {
    find_all_positives(set, 1, positives);
    const int64_t anchors = set.anchors().count(), slots = positives.offset[anchors];
    rank = Buffer<int32_t>(slots);
    threshold = Buffer<T>(slots);
    reach = Buffer<T>(slots);
    entering = Buffer<int32_t>(slots);
    weight = Buffer<T>(slots);
    std::fill(entering.begin(), entering.end(), 0);
    std::fill(weight.begin(), weight.end(), T(0));
    std::fill(negatives.begin(), negatives.end(), 0.0);
    std::fill(active.begin(), active.end(), 0);
    std::fill(counted.begin(), counted.end(), 0);
    parallel_rows(anchors, kAnchorGrain, 20.0 * double(slots), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sort_positives(i, margin);
    });
  }

  BandAnchors<T> anchors_of(const Pairs<T>& pairs) const {
    return {&pairs, positives.offset.data(), positives.count.data(), threshold.data(),
            reach.data()};
  }

 private:
  void sort_positives(int64_t i, T margin) {
    const int64_t begin = positives.offset[i], end = positives.offset[i + 1];
    if (begin == end) return;
    T* t = threshold.data() + begin;
    std::fill(t, t + (end - begin), std::numeric_limits<T>::infinity());
    t[0] = -t[0];
    rank_values(positives.d_ap.data() + begin, positives.count[i], rank.data() + begin);
    for (int64_t slot = begin; slot < begin + positives.count[i]; ++slot) {
      t[1 + rank[slot]] = positives.d_ap[slot];
      reach[begin + rank[slot]] = reach_of(positives.d_ap[slot], margin);
    }
  }
};

// The positives' weights and what all triplets add up to, in order.
template <class T>
LossTotals finish_totals(const TripletMarginLossArguments& arguments, BandSlots<T>& slots) {
  const PositiveSlots<T>& p = slots.positives;
  LossTotals totals;
  for (int64_t i = 0; i < p.count.size(); ++i) {
    double loss = arguments.smooth ? slots.negatives[i] : -slots.negatives[i];
    int64_t triplets = 0;
    const int64_t positives = arguments.smooth ? 0 : p.count[i];  // softplus: all is added up
    for (int64_t k = p.offset[i] + 1; k <= p.offset[i] + positives; ++k) {
      triplets += slots.entering[k - 1];
      slots.weight[k] = T(triplets);
      if (triplets == 0) continue;  // its distance may have overflowed
      loss += double(triplets) * (double(slots.threshold[k]) + arguments.margin);
    }
    totals.add(loss, slots.counted[i], slots.active[i]);
  }
  return totals;
}

// An edge to every positive, grouped by anchor, in the caller's rows.
template <class T>
EdgeList<T> positive_edges(const LabelledBatch<T>& batch, const BandSlots<T>& slots,
                           Distance distance) {
  const PositiveSlots<T>& p = slots.positives;
  const int64_t anchors = batch.emb.count();
  int64_t total = 0;
  for (int64_t i = 0; i < anchors; ++i) total += p.count[i];
  EdgeList<T> edges(anchors, total);
  edges.begin[0] = 0;
  for (int64_t a = 0; a < anchors; ++a) {
    edges.begin[a + 1] = edges.begin[a] + p.count[batch.position[a]];
  }
  parallel_rows(anchors, kAnchorGrain, double(total) * 4, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      const int64_t i = batch.position[a], offset = p.offset[i];
      for (int64_t k = 0; k < p.count[i]; ++k) {
        edges.other[edges.begin[a] + k] = batch.row_of(p.positive[offset + k]);
        edges.coefficient[edges.begin[a] + k] = slots.weight[offset + 1 + slots.rank[offset + k]] *
                                                distance_slope(distance, p.d_ap[offset + k]);
      }
    }
  });
  return edges;
}

// Fills the slots (with `rows`) and, unless `out` is null, the negatives' share of the gradient of
// the anchors (`rows`) or of the candidates, before it is scaled. In self mode they are the same.
template <class T>
void run_band(const TripletMarginLossArguments& arguments, const LabelledBatch<T>& batch,
              BandSlots<T>& slots, bool rows, bool columns, T* out) {
  const BandAnchors<T> anchors = slots.anchors_of(batch.set.pairs()), none{};
  const SortedRows<T>& side = rows ? batch.set.anchors() : batch.set.candidates();
  kernels<T>().band({arguments.kind,
                     T(arguments.margin),
                     arguments.smooth,
                     arguments.reduction == Reduction::kMean,
                     rows ? anchors : none,
                     columns ? anchors : none,
                     {slots.negatives.data(), slots.active.data(), slots.counted.data(),
                      slots.entering.data(), slots.weight.data()},
                     side.order().data(),
                     out});
}

LossAndGradients triplet_margin_loss(const TripletMarginLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_emb = arguments.batch.ref_emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch);
    const Distance kind = arguments.batch.distance;
    Tensor emb_out = empty_gradient(emb, kValueType<T>, arguments.emb_grad, emb.size(0));
    Tensor ref_out =
        empty_gradient(emb, kValueType<T>, arguments.ref_grad, ref_emb ? ref_emb->size(0) : 0);
    const auto data = [](Tensor& t) {
      return t.numel() > 0 ? static_cast<T*>(t.data_ptr()) : nullptr;
    };

    BandSlots<T> slots(batch.set, T(arguments.margin));
    run_band(arguments, batch, slots, true, batch.set.self(), data(emb_out));
    if (arguments.ref_grad) run_band(arguments, batch, slots, false, true, data(ref_out));
    LossTotals sum = finish_totals(arguments, slots);
    if (!batch.finite()) sum.poison();
    const Tensor loss = sum.value<T>(emb, arguments.reduction), totals = sum.tensor(emb);
    if (!arguments.emb_grad && !arguments.ref_grad) return {loss, emb_out, ref_out, totals};

    const T scale = T(1 / sum.divisor(arguments.reduction));
    const EdgeList<T> edges = positive_edges(batch, slots, kind);
    const Rows<T>&x = batch.emb, &y = batch.candidates();
    if (!batch.ref) {
      const EdgeList<T> reversed = transpose(edges, x.count());
      gather(x, {edges.view(x.values()), reversed.view(x.values())}, kind, scale, data(emb_out),
             true);
      return {loss, emb_out, ref_out, totals};
    }
    if (arguments.emb_grad) gather(x, {edges.view(y.values())}, kind, scale, data(emb_out), true);
    if (arguments.ref_grad) {
      const EdgeList<T> reversed = transpose(edges, y.count());
      gather(y, {reversed.view(x.values())}, kind, scale, data(ref_out), true);
    }
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("triplet_margin_loss", TORCH_BOX(&front::triplet_margin_loss<triplet_margin_loss>));
}

}  // namespace facenet::cpu
