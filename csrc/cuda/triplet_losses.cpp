// triplet_losses on CUDA: the loss of each given triplet, and the gradient.
#include "cuda/triplet_losses.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/triplet_losses.h"
#include "cuda/launch.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

template <class T>
struct TripletArrays {
  int64_t anchors = 0, candidates = 0, edges = 0;
  bool cosine = false, has_bank = false;
  RowFlags* flags = nullptr;
  T* anchor_norms = nullptr;
  T* candidate_norms = nullptr;
  T* scale = nullptr;
  uint32_t *row = nullptr, *sorted_row = nullptr;
  Edge<T>*edge = nullptr, *sorted_edge = nullptr;

  void place(Workspace& w) {
    flags = w.take<RowFlags>(1);
    anchor_norms = cosine ? w.take<T>(anchors) : nullptr;
    candidate_norms = cosine && has_bank ? w.take<T>(candidates) : anchor_norms;
    scale = w.take<T>(1);
    row = w.take<uint32_t>(edges);
    sorted_row = w.take<uint32_t>(edges);
    edge = w.take<Edge<T>>(edges);
    sorted_edge = w.take<Edge<T>>(edges);
  }
};

// The arguments of both operators, with what the kernels need to know of the rows.
template <class T>
class TripletCall {
 public:
  TripletCall(const TripletLossesArguments& arguments, int64_t edges_each)
      : device(arguments.emb),
        emb_(torch::stable::contiguous(arguments.emb)),
        ref_(arguments.ref_emb ? torch::stable::contiguous(*arguments.ref_emb) : emb_),
        anchor_(torch::stable::contiguous(arguments.anchor)),
        positive_(torch::stable::contiguous(arguments.positive)),
        negative_(torch::stable::contiguous(arguments.negative)),
        arrays(device, sizes_of(arguments, edges_each)) {
    rows = {data_of<const int64_t>(anchor_), data_of<const int64_t>(positive_),
            data_of<const int64_t>(negative_), anchor_.numel()};
    const Distance kind = arguments.distance;
    sides = {rows_of<T>(emb_, kind), rows_of<T>(ref_, kind), arrays.flags};
    check_cuda(cudaMemsetAsync(arrays.flags, 0, sizeof(RowFlags), device.stream()),
               "clearing flags");
    sides.anchors.inverse_norms = arrays.anchor_norms;
    sides.candidates.inverse_norms = arrays.candidate_norms;
    const PackedRows not_packed{};
    prepare_rows(device, sides.anchors, arrays.anchor_norms, not_packed, arrays.flags);
    if (arguments.ref_emb) {
      prepare_rows(device, sides.candidates, arrays.candidate_norms, not_packed, arrays.flags);
    }
  }

  const Device device;

 private:
  const Tensor emb_, ref_, anchor_, positive_, negative_;

  static TripletArrays<T> sizes_of(const TripletLossesArguments& arguments, int64_t edges_each) {
    TripletArrays<T> sizes;
    sizes.anchors = arguments.emb.size(0);
    sizes.has_bank = arguments.ref_emb.has_value();
    sizes.candidates = sizes.has_bank ? arguments.ref_emb->size(0) : sizes.anchors;
    sizes.cosine = arguments.distance == Distance::kCosine;
    sizes.edges = edges_each * arguments.anchor.numel();
    return sizes;
  }

 public:
  const Scratch<TripletArrays<T>> arrays;
  TripletRows rows{};
  Sides<T> sides{};
};

Tensor triplet_losses(const TripletLossesArguments& arguments) {
  const Tensor& emb = arguments.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const TripletCall<T> call(arguments, 0);
    Tensor out = torch::stable::new_empty(emb, {arguments.anchor.numel()}, kValueType<T>);
    find_losses_of_triplets(call.device, call.sides, call.rows, arguments.margin, arguments.smooth,
                            arguments.swap, data_of<T>(out));
    return out;
  });
}

EmbeddingGradients triplet_losses_backward(const TripletLossesArguments& arguments,
                                           const Tensor& grad) {
  const Tensor& emb = arguments.emb;
  const std::optional<Tensor>& ref_emb = arguments.ref_emb;
  const bool swap = arguments.swap;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> EmbeddingGradients {
    using T = decltype(zero);
    const TripletCall<T> call(arguments, swap ? 6 : 4);
    const Tensor weights = torch::stable::contiguous(grad);
    const auto& arrays = call.arrays;
    find_edges_of_triplets<T>(call.device, call.sides, call.rows, arguments.margin,
                              arguments.smooth, swap, data_of<const T>(weights), arrays.flags,
                              {arrays.row, arrays.edge, arrays.scale});

    Tensor emb_grad = empty_gradient(emb, kValueType<T>, true, emb.size(0));
    Tensor ref_grad = empty_gradient(emb, kValueType<T>, true, ref_emb ? ref_emb->size(0) : 0);
    const auto sorted = [&](const Rows<T>& rows, int64_t begin, int64_t end) -> EdgeList<T> {
      const EdgeList<T> from{arrays.row + begin, arrays.edge + begin, end - begin};
      uint32_t* row = arrays.sorted_row + begin;
      Edge<T>* edge = arrays.sorted_edge + begin;
      sort_edges(call.device, rows.count, from, row, edge);
      return {row, edge, from.count};
    };
    const auto gather_rows = [&](const Rows<T>& rows, const Rows<T>& others, Tensor& out,
                                 const EdgeList<T>& incoming, const EdgeList<T>& inner) {
      Gathered<T> g{};
      g.rows = rows;
      g.others = others;
      g.incoming = incoming;
      g.inner = inner;
      g.scale = arrays.scale;
      gather(call.device, g, data_of<T>(out));
    };
    const Rows<T>&x = call.sides.anchors, &y = call.sides.candidates;
    const int64_t of_anchors = 2 * call.rows.count, of_pairs = 2 * of_anchors;
    if (ref_emb) {
      gather_rows(x, y, emb_grad, sorted(x, 0, of_anchors), {});
      gather_rows(y, x, ref_grad, sorted(y, of_anchors, of_pairs),
                  sorted(y, of_pairs, arrays.edges));
    } else {
      gather_rows(x, x, emb_grad, sorted(x, 0, arrays.edges), {});
    }
    return {emb_grad, ref_grad};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("triplet_losses", TORCH_BOX(&front::triplet_losses<triplet_losses>));
  m.impl("triplet_losses_backward",
         TORCH_BOX(&front::triplet_losses_backward<triplet_losses_backward>));
}

}  // namespace facenet::cuda
