// mined_triplet_loss on CUDA: selection, loss and gradient without listing triplets.
#include "cuda/mined_triplet_loss.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/labelled_batch.h"
#include "cuda/search_small.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

template <class T>
struct LossArrays {
  int64_t anchors = 0, candidates = 0, slots = 0, edges = 0;
  bool gradient = false;
  bool incoming = false;           // the candidates get one too, as such
  int32_t anchors_of_a_group = 0;  // of the PushTable; 0: edges are sorted
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
    of = {slots, w.take<T>(slots), w.take<uint32_t>(edges), nullptr, nullptr, {}};
    if (!incoming || anchors_of_a_group > 0) of.weight = w.take<T>(edges);
    if (!incoming) return;
    if (anchors_of_a_group > 0) {
      of.pushes = PushTable<T>(anchors, anchors_of_a_group, candidates);
      of.pushes.cells = w.take<PushCell>(of.pushes.count());
      of.pushes.begin = w.take<int32_t>(of.pushes.groups);
      of.pushes.weight = w.take<T>(edges);
      return;
    }
    of.incoming = w.take<Edge<T>>(edges);
    sorted_row = w.take<uint32_t>(edges);
    sorted_edge = w.take<Edge<T>>(edges);
  }
};

LossAndGradients mined_triplet_loss(const MinedTripletLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_emb = arguments.batch.ref_emb;
  const TripletRule& rule = arguments.rule;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    LabelledBatch<T> batch(arguments.batch, !is_random(rule.negatives));
    const Device& device = batch.device;
    const Pairs<T>& pairs = batch.pairs;
    const bool gradient = arguments.emb_grad || arguments.ref_grad;
    const bool incoming = pairs.self || arguments.ref_grad;
    const int of_small_blocks = small_blocks(batch, rule);
    LossArrays<T> sizes;
    sizes.anchors = emb.size(0);
    sizes.candidates = pairs.candidates.count;
    sizes.slots = batch.slot_count;
    sizes.gradient = gradient;
    sizes.incoming = incoming;
    if (incoming && batch.few_rows() && pairs.candidates.count <= PushTable<T>::kMostRows) {
      sizes.anchors_of_a_group = of_small_blocks > 0 ? of_small_blocks : kAnchorsOfLosses;
    }
    std::optional<Selection<T>> selection;
    if (of_small_blocks == 0) selection.emplace(batch, rule);
    const Scratch<LossArrays<T>> arrays(device, sizes);

    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    const AnchorLosses<T> losses{T(rule.margin), arguments.smooth,
                                 gradient,       is_random(rule.negatives),
                                 arrays.sums,    arrays.of};
    const LossReduction<T> reduction{arguments.reduction, batch.flags(), batch.class_sizes(),
                                     data_of<T>(loss),    arrays.scale,  data_of<double>(totals)};
    // The gradient takes the most memory: what the search alone reads is freed before.
    if (of_small_blocks > 0) {
      const SmallLosses<T> all{losses, true, batch.flags(), reduction};
      const Selection<T> without_arrays(batch, rule, &all);
      batch.drop_interleaved();
    } else {
      {
        const Memory slopes(device, gradient ? size_t(batch.slot_count) * sizeof(T) : 0);
        find_anchor_losses(device, pairs, batch.slots(), selection->arrays(), losses,
                           reinterpret_cast<T*>(slopes.data()));
      }
      selection.reset();
      reduce(device, sizes_of(pairs).with("slots", batch.slot_count), arrays.sums,
             pairs.anchors.count, reduction);
    }

    Tensor emb_out = empty_gradient(emb, kValueType<T>, arguments.emb_grad, emb.size(0));
    Tensor ref_out =
        empty_gradient(emb, kValueType<T>, arguments.ref_grad, ref_emb ? ref_emb->size(0) : 0);
    if (!gradient) return {loss, emb_out, ref_out, totals};

    EdgeList<T> sorted{};
    if (incoming && arrays.anchors_of_a_group == 0) {
      sort_edges<T>(device, pairs.candidates.count,
                    {arrays.of.row, arrays.of.incoming, arrays.edges}, arrays.sorted_row,
                    arrays.sorted_edge);
      sorted = {arrays.sorted_row, arrays.sorted_edge, arrays.edges};
    }
    Gathered<T> g{};
    g.slot_edges.slots = batch.slots();
    g.slot_edges.positive = arrays.of.positive;
    g.slot_edges.negative = arrays.of.row;
    const bool table = arrays.of.incoming == nullptr;
    g.slot_edges.weight = table ? arrays.of.weight : &arrays.of.incoming->weight;
    g.slot_edges.weights_apart = table ? 1 : int32_t(sizeof(Edge<T>) / sizeof(T));
    g.slot_edges.slot_total = batch.slot_count;
    g.slot_edges.class_begin = pairs.class_begin;
    g.anchors_begin = batch.anchor_classes().begin;
    g.anchors_end = batch.anchor_classes().end;
    g.scale = arrays.scale;
    if (arguments.emb_grad) {
      g.rows = pairs.anchors;
      g.others = pairs.candidates;
      g.as_anchors = true;
      g.as_candidates = pairs.self;
      if (pairs.self) g.incoming = sorted, g.pushes = arrays.of.pushes;
      gather(device, g, data_of<T>(emb_out));
    }
    if (arguments.ref_grad) {
      g.rows = pairs.candidates;
      g.others = pairs.anchors;
      g.as_anchors = false;
      g.as_candidates = true;
      g.incoming = sorted, g.pushes = arrays.of.pushes;
      gather(device, g, data_of<T>(ref_out));
    }
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("mined_triplet_loss", TORCH_BOX(&front::mined_triplet_loss<mined_triplet_loss>));
}

}  // namespace facenet::cuda
