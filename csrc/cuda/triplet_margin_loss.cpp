// triplet_margin_loss on CUDA: the loss over every triplet of a kind, and its gradient.
#include "cuda/triplet_margin_loss.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/distances.h"
#include "cuda/labelled_batch.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

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
    sizes.stripes = pass.stripe_count();
    sizes.smooth = arguments.smooth;
    const Scratch<BandArrays<T>> arrays(device, sizes);

    if (pairs.anchors.count > 0) find_positives(device, pairs, batch.slots(), arrays.d_ap);
    begin_bands<T>(device, pairs, batch.slots(), arrays);
    const BandAnchors<T> anchors{
        true,           batch.slots().offset, arrays.count, arrays.threshold, pairs.class_begin,
        pairs.class_end};
    const BandAnchors<T> none{};
    const auto run = [&](const PushPass<T>& over, const Rows<T>& rows, const BandAnchors<T>& own,
                         const BandAnchors<T>& others, const PartialGradient<T>& partial) {
      const bool counts = arguments.reduction == Reduction::kMean;
      const BandArguments<T> band{
          arguments.kind, T(arguments.margin), arguments.smooth, counts,       own,
          others,         arrays.totals,       rows.count,       rows.distance};
      push_bands(over, band, partial.data());
    };
    const PartialGradient<T> emb_partial(pass, arguments.emb_grad);
    run(pass, pairs.anchors, anchors, pairs.self ? anchors : none, emb_partial);
    const bool of_candidates = arguments.ref_grad;
    const PushPass<T> other_pass(device, pairs.candidates, pairs.anchors);
    const PartialGradient<T> ref_partial(other_pass, of_candidates);
    if (of_candidates) run(other_pass, pairs.candidates, none, anchors, ref_partial);

    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    finish_bands<T>(device, pairs, batch.slots(), arguments.margin, arrays);
    reduce(device, sizes_of(pairs).with("slots", batch.slot_count), arrays.sums,
           pairs.anchors.count,
           {arguments.reduction, batch.flags(), batch.class_sizes(), data_of<T>(loss), arrays.scale,
            data_of<double>(totals)});

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
    const auto gather_side = [&](const PartialGradient<T>& partial, bool as_candidates,
                                 Tensor& out) {
      partial.add_to(g);
      g.as_candidates = as_candidates;
      g.as_anchors = !as_candidates || pairs.self;
      gather(device, g, data_of<T>(out));
    };
    if (arguments.emb_grad) gather_side(emb_partial, pairs.self, emb_out);
    if (of_candidates) gather_side(ref_partial, true, ref_out);
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("triplet_margin_loss", TORCH_BOX(&front::triplet_margin_loss<triplet_margin_loss>));
}

}  // namespace facenet::cuda
