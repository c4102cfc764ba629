// triplet_losses on the CPU: the loss of each given triplet, and the gradient.
#include "common/triplet_losses.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/edges.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "semantics/hinge.h"
#include "semantics/swap.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kTripletGrain = 1024;

// Tensors of a call as the loops read them: rows, and indices that are known to be rows.
template <class T>
class IndexedTriplets {
 public:
  explicit IndexedTriplets(const TripletLossesArguments& arguments)
      : count(arguments.anchor.numel()),
        anchor_(torch::stable::contiguous(arguments.anchor)),
        positive_(torch::stable::contiguous(arguments.positive)),
        negative_(torch::stable::contiguous(arguments.negative)),
        anchor(check_rows("anchor", anchor_, arguments.emb)),
        positive(check_rows("positive", positive_, candidates(arguments))),
        negative(check_rows("negative", negative_, candidates(arguments))),
        emb(arguments.emb, arguments.distance),
        distance_(arguments.distance) {
    if (arguments.ref_emb) ref.emplace(*arguments.ref_emb, distance_);
  }

  const Rows<T>& candidates() const { return ref ? *ref : emb; }
  bool finite() const { return emb.finite() && (!ref || ref->finite()); }
  T d_ap(int64_t t) const {
    return emb.distance_to(anchor[t], candidates(), positive[t], distance_);
  }
  T d_an(int64_t t) const {
    return emb.distance_to(anchor[t], candidates(), negative[t], distance_);
  }
  T d_pn(int64_t t) const {
    return candidates().distance_to(positive[t], candidates(), negative[t], distance_);
  }

  const int64_t count;

 private:
  static const Tensor& candidates(const TripletLossesArguments& arguments) {
    return arguments.ref_emb ? *arguments.ref_emb : arguments.emb;
  }
  static const int64_t* check_rows(const char* argument, const Tensor& t, const Tensor& of) {
    const auto* index = static_cast<const int64_t*>(t.data_ptr());
    for (int64_t k = 0; k < t.numel(); ++k) {
      FACENET_CHECK(index[k] >= 0 && index[k] < of.size(0), argument, ": expected rows in [0, ",
                    of.size(0), "), got ", index[k], " at entry ", k);
    }
    return index;
  }

  const Tensor anchor_, positive_, negative_;

 public:
  const int64_t *const anchor, *const positive, *const negative;  // [count]
  const Rows<T> emb;
  std::optional<Rows<T>> ref;

 private:
  const Distance distance_;
};

// Makes room for `each` edges of every triplet, grouped by the row that they push. Triplets may
// come in any order. Returns, for each triplet, where its edges begin.
template <class T>
Buffer<int64_t> group_edges(const int64_t* row, int64_t count, int64_t each, EdgeList<T>& edges) {
  std::vector<int64_t> size(edges.rows, 0);
  for (int64_t t = 0; t < count; ++t) size[row[t]] += each;
  edges.begin[0] = 0;
  for (int64_t r = 0; r < edges.rows; ++r) edges.begin[r + 1] = edges.begin[r] + size[r];
  std::vector<int64_t> next(edges.begin.data(), edges.begin.data() + edges.rows);
  Buffer<int64_t> slot(count);
  for (int64_t t = 0; t < count; ++t) {
    slot[t] = next[row[t]];
    next[row[t]] += each;
  }
  return slot;
}

Tensor triplet_losses(const TripletLossesArguments& arguments) {
  const Tensor& emb = arguments.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const IndexedTriplets<T> triplets(arguments);
    Tensor out = torch::stable::new_empty(emb, {triplets.count}, kValueType<T>);
    T* losses = static_cast<T*>(out.data_ptr());
    const T poison = triplets.finite() ? T(0) : std::numeric_limits<T>::quiet_NaN();
    const double work = double(triplets.count) * double(emb.size(1)) / 2;
    parallel_rows(triplets.count, kTripletGrain, work, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        T d_n = triplets.d_an(t);
        if (arguments.swap) d_n = swapped_distance(d_n, triplets.d_pn(t));
        const T v = triplets.d_ap(t) - d_n;
        losses[t] = hinge(v + T(arguments.margin), arguments.smooth) + poison;
      }
    });
    return out;
  });
}

EmbeddingGradients triplet_losses_backward(const TripletLossesArguments& arguments,
                                           const Tensor& grad) {
  const Tensor& emb = arguments.emb;
  const std::optional<Tensor>& ref_emb = arguments.ref_emb;
  const Distance kind = arguments.distance;
  const bool swap = arguments.swap;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> EmbeddingGradients {
    using T = decltype(zero);
    const Tensor weights = torch::stable::contiguous(grad);
    const T* weight = static_cast<const T*>(weights.data_ptr());
    const IndexedTriplets<T> triplets(arguments);
    const int64_t count = triplets.count, dim = emb.size(1);
    const int64_t *p = triplets.positive, *n = triplets.negative;

    // Two edges per triplet from its anchor and, swapping, one from its positive to its negative.
    EdgeList<T> edges(triplets.emb.count(), 2 * count);
    const Buffer<int64_t> slot = group_edges(triplets.anchor, count, 2, edges);
    const int64_t swaps = swap ? count : 0;
    const int64_t swapped_rows = swap ? triplets.candidates().count() : 0;
    EdgeList<T> swapped(swapped_rows, swaps);
    const Buffer<int64_t> swapped_slot = group_edges(p, swaps, 1, swapped);
    const double work = double(count) * double(dim) / 2;
    parallel_rows(count, kTripletGrain, work, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T d_ap = triplets.d_ap(t), d_an = triplets.d_an(t);
        const T d_pn = swap ? triplets.d_pn(t) : T(0);
        const T d_n = swap ? swapped_distance(d_an, d_pn) : d_an;
        const T share = swap ? anchor_share(d_an, d_pn) : T(1);
        const T slope = weight[t] * hinge_slope(d_ap - d_n + T(arguments.margin), arguments.smooth);
        edges.other[slot[t]] = int32_t(p[t]);
        edges.coefficient[slot[t]] = slope * distance_slope(kind, d_ap);
        edges.other[slot[t] + 1] = int32_t(n[t]);
        edges.coefficient[slot[t] + 1] = -slope * share * distance_slope(kind, d_an);
        if (!swap) continue;
        swapped.other[swapped_slot[t]] = int32_t(n[t]);
        swapped.coefficient[swapped_slot[t]] = -slope * (T(1) - share) * distance_slope(kind, d_pn);
      }
    });
    const EdgeList<T> reversed = transpose(edges, triplets.candidates().count());
    const EdgeList<T> swapped_reversed = transpose(swapped, swapped_rows);

    const T scale = triplets.finite() ? T(1) : std::numeric_limits<T>::quiet_NaN();
    Tensor emb_grad = empty_gradient(emb, kValueType<T>, true, emb.size(0));
    Tensor ref_grad = empty_gradient(emb, kValueType<T>, true, ref_emb ? ref_emb->size(0) : 0);
    T* emb_out = static_cast<T*>(emb_grad.data_ptr());
    const T *x = triplets.emb.values(), *y = triplets.candidates().values();
    std::vector<Edges<T>> of_anchors = {edges.view(y)}, of_candidates = {reversed.view(x)};
    if (swap) {
      of_candidates.push_back(swapped.view(y));
      of_candidates.push_back(swapped_reversed.view(y));
    }
    if (triplets.ref) {
      gather(*triplets.ref, of_candidates, kind, scale, static_cast<T*>(ref_grad.data_ptr()));
    } else {
      of_anchors.insert(of_anchors.end(), of_candidates.begin(), of_candidates.end());
    }
    gather(triplets.emb, of_anchors, kind, scale, emb_out);
    return {emb_grad, ref_grad};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("triplet_losses", TORCH_BOX(&front::triplet_losses<triplet_losses>));
  m.impl("triplet_losses_backward",
         TORCH_BOX(&front::triplet_losses_backward<triplet_losses_backward>));
}

}  // namespace facenet::cpu
