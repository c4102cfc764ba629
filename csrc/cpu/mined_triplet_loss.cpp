// mined_triplet_loss on the CPU: selection, loss and gradient without a list of triplets.
//
// The forward computes the gradient too, while it has the distances and negatives. The backward is
// one multiplication. What the forward keeps is the gradient, which needs its memory in any case.
#include <torch/csrc/stable/library.h>

#include "common/labelled_operators.h"
#include "cpu/edges.h"
#include "cpu/labelled_batch.h"
#include "cpu/loss_totals.h"
#include "cpu/parallel.h"
#include "cpu/selection.h"
#include "semantics/hinge.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kAnchorGrain = 64;

// Sums over the triplets of one anchor.
struct LossSum {
  double loss = 0;
  int64_t triplets = 0;
  int64_t nonzero = 0;
  int64_t active = 0;  // with a gradient
};

// One entry for each of the caller's anchors.
template <class T>
Buffer<LossSum> sum_per_anchor(const LabelledBatch<T>& batch, const Selection<T>& s, T margin,
                               bool smooth) {
  Buffer<LossSum> sums(batch.emb.count());
  const double work = 4.0 * double(s.negative.size());
  parallel_rows(batch.emb.count(), kAnchorGrain, work, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      LossSum sum;
      s.for_each_triplet(batch.position[a], [&](int64_t slot) {
        const T v = s.d_ap[slot] - s.d_an[slot] + margin;
        const T h = hinge(v, smooth);
        sum.loss += double(h);
        sum.triplets += 1;
        sum.nonzero += smooth || h > T(0);  // softplus is positive, whatever it rounds to
        sum.active += hinge_slope(v, smooth) != T(0);
      });
      sums[a] = sum;
    }
  });
  return sums;
}

// Two edges per triplet that has a gradient, grouped by anchor, in the caller's rows.
template <class T>
EdgeList<T> loss_edges(const LabelledBatch<T>& batch, const Selection<T>& s,
                       const Buffer<LossSum>& sums, T margin, bool smooth, Distance distance) {
  const int64_t anchors = batch.emb.count();
  int64_t total = 0;
  for (int64_t a = 0; a < anchors; ++a) total += 2 * sums[a].active;
  EdgeList<T> edges(anchors, total);
  edges.begin[0] = 0;
  for (int64_t a = 0; a < anchors; ++a) edges.begin[a + 1] = edges.begin[a] + 2 * sums[a].active;
  parallel_rows(anchors, kAnchorGrain, double(total) * 4, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      int64_t to = edges.begin[a];
      s.for_each_triplet(batch.position[a], [&](int64_t slot) {
        const T slope = hinge_slope(s.d_ap[slot] - s.d_an[slot] + margin, smooth);
        if (slope == T(0)) return;
        edges.other[to] = batch.row_of(s.positive[slot]);
        edges.coefficient[to++] = slope * distance_slope(distance, s.d_ap[slot]);
        edges.other[to] = batch.row_of(s.negative[slot]);
        edges.coefficient[to++] = -slope * distance_slope(distance, s.d_an[slot]);
      });
    }
  });
  return edges;
}

LossAndGradients mined_triplet_loss(const MinedTripletLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_emb = arguments.batch.ref_emb;
  const TripletRule& rule = arguments.rule;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch);
    const Selection<T> selection(batch.set, rule);
    const T margin = T(rule.margin);
    const Buffer<LossSum> sums = sum_per_anchor(batch, selection, margin, arguments.smooth);
    LossTotals sum;  // added in order: the same on any number of threads
    for (int64_t a = 0; a < batch.emb.count(); ++a) {
      sum.add(sums[a].loss, sums[a].triplets, sums[a].nonzero);
    }
    if (!batch.finite()) sum.poison();
    const double scale = 1 / sum.divisor(arguments.reduction);
    const Tensor loss = sum.value<T>(emb, arguments.reduction), totals = sum.tensor(emb);
    Tensor emb_out = empty_gradient(emb, kValueType<T>, arguments.emb_grad, emb.size(0));
    Tensor ref_out =
        empty_gradient(emb, kValueType<T>, arguments.ref_grad, ref_emb ? ref_emb->size(0) : 0);
    if (!arguments.emb_grad && !arguments.ref_grad) return {loss, emb_out, ref_out, totals};

    const Distance kind = arguments.batch.distance;
    const EdgeList<T> edges = loss_edges(batch, selection, sums, margin, arguments.smooth, kind);
    const Rows<T>& x = batch.emb;
    if (!batch.ref) {
      const EdgeList<T> reversed = transpose(edges, x.count());
      gather(x, {edges.view(x.values()), reversed.view(x.values())}, kind, T(scale),
             static_cast<T*>(emb_out.data_ptr()));
      return {loss, emb_out, ref_out, totals};
    }
    const Rows<T>& y = *batch.ref;
    if (arguments.emb_grad) {
      gather(x, {edges.view(y.values())}, kind, T(scale), static_cast<T*>(emb_out.data_ptr()));
    }
    if (arguments.ref_grad) {
      const EdgeList<T> reversed = transpose(edges, y.count());
      gather(y, {reversed.view(x.values())}, kind, T(scale), static_cast<T*>(ref_out.data_ptr()));
    }
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("mined_triplet_loss", TORCH_BOX(&front::mined_triplet_loss<mined_triplet_loss>));
}

}  // namespace facenet::cpu
