// triplet_losses on CUDA: the loss of each given triplet, and the gradient.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/triplet_losses.h"
#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/prepare.h"
#include "cuda/warp.cuh"
#include "cuda/workspace.h"
#include "semantics/hinge.h"
#include "semantics/swap.h"

namespace facenet::cuda {
namespace {

// [T] each. Anchors are rows of the embeddings, positives and negatives rows of the candidates.
struct TripletRows {
  const int64_t* anchor;
  const int64_t* positive;
  const int64_t* negative;
  int64_t count;
};

template <class T>
struct Sides {
  Rows<T> anchors;
  Rows<T> candidates;
  const RowFlags* flags;

  __device__ T poison() const { return flags->not_finite != 0 ? T(NAN) : T(0); }
};

// A warp's distance of two rows. Lanes take every 32nd column, so that reads are whole lines.
template <class T>
__device__ T warp_distance(const Rows<T>& x, int32_t i, const Rows<T>& y, int32_t j) {
  const T fi = x.factor(i), fj = y.factor(j);
  T sum = 0;
  for (int32_t k = lane(); k < x.dim; k += 32) {
    const T difference = x.raw(i, k) * fi - y.raw(j, k) * fj;
    sum = fma(difference, difference, sum);
  }
  return finish_distance(x, i, y, j, warp_sum(sum));
}

// Whether the indices of a triplet are rows. If not, nothing is read and its loss is NaN.
template <class T>
__device__ bool in_range(const Sides<T>& sides, const TripletRows& t, int64_t k) {
  const auto inside = [](int64_t row, int32_t count) { return row >= 0 && row < count; };
  return inside(t.anchor[k], sides.anchors.count) &&
         inside(t.positive[k], sides.candidates.count) &&
         inside(t.negative[k], sides.candidates.count);
}

// A thread per triplet. The host does not synchronise to learn of an index that is no row. Instead
// every gradient becomes NaN, as it does if an embedding is not finite.
template <class T>
__global__ void __launch_bounds__(kBlock)
    look_at_triplets(const Sides<T> sides, const TripletRows t, RowFlags* flags) {
  const int64_t k = thread_number();
  if (k < t.count && !in_range(sides, t, k)) atomicExch(&flags->not_finite, 1);
}

template <class T>
struct TripletDistances {
  T d_ap, d_an, d_pn;  // d_pn where anchors are swapped
  T gap;               // d(a,p) less what the negative counts at
};

template <class T>
__device__ TripletDistances<T> distances_of(const Sides<T>& sides, int32_t a, int32_t p, int32_t n,
                                            bool swap) {
  const Rows<T>&x = sides.anchors, &y = sides.candidates;
  TripletDistances<T> d{warp_distance(x, a, y, p), warp_distance(x, a, y, n), T(0), T(0)};
  if (swap) d.d_pn = warp_distance(y, p, y, n);
  d.gap = d.d_ap - (swap ? swapped_distance(d.d_an, d.d_pn) : d.d_an);
  return d;
}

// A warp per triplet -> losses [T]
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    losses_of_triplets(const Sides<T> sides, const TripletRows t, const T margin, const bool smooth,
                       const bool swap, T* losses) {
  const int64_t k = warp_number();
  if (k >= t.count) return;
  T loss = T(NAN);
  if (in_range(sides, t, k)) {
    const TripletDistances<T> d = distances_of(sides, int32_t(t.anchor[k]), int32_t(t.positive[k]),
                                               int32_t(t.negative[k]), swap);
    loss = hinge(d.gap + margin, smooth) + sides.poison();
  }
  if (lane() == 0) losses[k] = loss;
}

// A warp per triplet -> its four edges: 2k and 2k+1 push the anchor, 2T + 2k and 2T + 2k + 1 the
// positive and the negative. With swap, 4T + 2k and 4T + 2k + 1 are the edges between positive and
// negative.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    edges_of_triplets(const Sides<T> sides, const TripletRows t, const T margin, const bool smooth,
                      const bool swap, const T* grad, uint32_t* row, Edge<T>* edge, T* scale) {
  const int64_t k = warp_number();
  if (k == 0 && lane() == 0) *scale = T(1) + sides.poison();
  if (k >= t.count) return;
  T to_positive = 0, to_negative = 0, between = 0;
  const bool there = in_range(sides, t, k);
  const int32_t a = int32_t(t.anchor[k]), p = int32_t(t.positive[k]), n = int32_t(t.negative[k]);
  if (there) {
    const TripletDistances<T> d = distances_of(sides, a, p, n, swap);
    const T slope = grad[k] * hinge_slope(d.gap + margin, smooth);
    const T share = swap ? anchor_share(d.d_an, d.d_pn) : T(1);
    const Distance kind = sides.anchors.distance;
    to_positive = slope * distance_slope(kind, d.d_ap);
    to_negative = -slope * share * distance_slope(kind, d.d_an);
    between = -slope * (T(1) - share) * distance_slope(kind, d.d_pn);
  }
  if (lane() != 0) return;
  const int64_t anchor_edges = 2 * k, candidate_edges = 2 * (t.count + k);
  row[anchor_edges] = row[anchor_edges + 1] = there ? uint32_t(a) : kNoRow;
  row[candidate_edges] = there ? uint32_t(p) : kNoRow;
  row[candidate_edges + 1] = there ? uint32_t(n) : kNoRow;
  edge[anchor_edges] = {p, to_positive};
  edge[anchor_edges + 1] = {n, to_negative};
  edge[candidate_edges] = {a, to_positive};
  edge[candidate_edges + 1] = {a, to_negative};
  if (!swap) return;
  const int64_t swapped_edges = 2 * (2 * t.count + k);
  row[swapped_edges] = row[candidate_edges];
  row[swapped_edges + 1] = row[candidate_edges + 1];
  edge[swapped_edges] = {n, between};
  edge[swapped_edges + 1] = {p, between};
}

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
        arrays(emb_, sizes_of(arguments, edges_each)) {
    const auto data = [](const Tensor& t) { return static_cast<const int64_t*>(t.data_ptr()); };
    rows = {data(anchor_), data(positive_), data(negative_), anchor_.numel()};
    const Distance kind = arguments.distance;
    sides = {rows_of<T>(emb_, kind), rows_of<T>(ref_, kind), arrays.flags};
    check_cuda(cudaMemsetAsync(arrays.flags, 0, sizeof(RowFlags), device.stream()),
               "clearing flags");
    sides.anchors.inverse_norms = arrays.anchor_norms;
    sides.candidates.inverse_norms = arrays.candidate_norms;
    T* no_terms = nullptr;
    prepare_rows(device, sides.anchors, arrays.anchor_norms, no_terms, arrays.flags);
    if (arguments.ref_emb) {
      prepare_rows(device, sides.candidates, arrays.candidate_norms, no_terms, arrays.flags);
    }
  }

  std::string shapes() const {
    return "M=" + std::to_string(sides.anchors.count) +
           " N=" + std::to_string(sides.candidates.count) +
           " D=" + std::to_string(sides.anchors.dim) + " T=" + std::to_string(rows.count);
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
    launch("losses_of_triplets", call.shapes(), call.device.stream(),
           {blocks_of_warps(call.rows.count), kBlock}, losses_of_triplets<T>, call.sides, call.rows,
           T(arguments.margin), arguments.smooth, arguments.swap, static_cast<T*>(out.data_ptr()));
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
    launch("look_at_triplets", call.shapes(), call.device.stream(),
           {blocks_of_threads(call.rows.count), kBlock}, look_at_triplets<T>, call.sides, call.rows,
           arrays.flags);
    launch("edges_of_triplets", call.shapes(), call.device.stream(),
           {blocks_of_warps(std::max<int64_t>(call.rows.count, 1)), kBlock}, edges_of_triplets<T>,
           call.sides, call.rows, T(arguments.margin), arguments.smooth, swap,
           static_cast<const T*>(weights.data_ptr()), arrays.row, arrays.edge, arrays.scale);

    Tensor emb_grad = empty_gradient(emb, kValueType<T>, true, emb.size(0));
    Tensor ref_grad = empty_gradient(emb, kValueType<T>, true, ref_emb ? ref_emb->size(0) : 0);
    const auto sorted = [&](const Rows<T>& rows, int64_t begin, int64_t end) -> EdgeList<T> {
      const EdgeList<T> from{arrays.row + begin, arrays.edge + begin, end - begin};
      uint32_t* row = arrays.sorted_row + begin;
      Edge<T>* edge = arrays.sorted_edge + begin;
      sort_edges(call.device, emb, rows.count, from, row, edge);
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
      gather(call.device, g, static_cast<T*>(out.data_ptr()));
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
