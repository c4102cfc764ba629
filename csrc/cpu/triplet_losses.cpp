// triplet_losses on the CPU: the loss of each given triplet, and the gradient.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "common/options.h"
#include "common/triplet_arguments.h"
#include "cpu/edges.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "semantics/hinge.h"
#include "semantics/swap.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kTripletGrain = 1024;

struct TripletArguments {
  const Tensor& emb;
  const std::optional<Tensor>& ref_emb;
  Tensor anchor, positive, negative;

  TripletArguments(const Tensor& emb_, const std::optional<Tensor>& ref_emb_, const Tensor& a,
                   const Tensor& p, const Tensor& n)
      : emb(emb_),
        ref_emb(ref_emb_),
        anchor(torch::stable::contiguous(a)),
        positive(torch::stable::contiguous(p)),
        negative(torch::stable::contiguous(n)) {
    const int64_t candidates = ref_emb ? ref_emb->size(0) : emb.size(0);
    check_rows("anchor", anchor, emb.size(0));
    check_rows("positive", positive, candidates);
    check_rows("negative", negative, candidates);
  }

  int64_t count() const { return anchor.numel(); }
  static const int64_t* data(const Tensor& t) { return static_cast<const int64_t*>(t.data_ptr()); }

 private:
  void check_rows(const char* argument, const Tensor& t, int64_t rows) const {
    const int64_t* index = data(t);
    for (int64_t k = 0; k < t.numel(); ++k) {
      FACENET_CHECK(index[k] >= 0 && index[k] < rows, argument, ": expected rows in [0, ", rows,
                    "), got ", index[k], " at entry ", k);
    }
  }
};

template <class T>
struct TripletRows {
  Rows<T> emb;
  std::optional<Rows<T>> ref;
  Distance distance;

  TripletRows(const TripletArguments& arguments, Distance kind)
      : emb(arguments.emb, kind), distance(kind) {
    if (arguments.ref_emb) ref.emplace(*arguments.ref_emb, kind);
  }
  const Rows<T>& candidates() const { return ref ? *ref : emb; }
  bool finite() const { return emb.finite() && (!ref || ref->finite()); }
  T distance_between(int64_t a, int64_t c) const {
    return emb.distance_to(a, candidates(), c, distance);
  }
  T distance_of_candidates(int64_t p, int64_t n) const {
    return candidates().distance_to(p, candidates(), n, distance);
  }
};

// Room for `each` edges of every triplet, grouped by the row that they push: triplets may come in
// any order. Returns where each triplet's own begin.
template <class T>
Buffer<int64_t> group_edges(const int64_t* row, int64_t count, int64_t each, EdgeList<T>& edges) {
  std::fill(edges.begin.begin(), edges.begin.end(), 0);
  for (int64_t t = 0; t < count; ++t) edges.begin[row[t] + 1] += each;
  for (int64_t r = 0; r < edges.rows; ++r) edges.begin[r + 1] += edges.begin[r];
  std::vector<int64_t> next(edges.begin.data(), edges.begin.data() + edges.rows);
  Buffer<int64_t> slot(count);
  for (int64_t t = 0; t < count; ++t) {
    slot[t] = next[row[t]];
    next[row[t]] += each;
  }
  return slot;
}

Tensor triplet_losses(const Tensor& emb, const std::optional<Tensor>& ref_emb, const Tensor& anchor,
                      const Tensor& positive, const Tensor& negative, double margin,
                      const std::string& distance, bool smooth, bool swap) {
  check_triplet_arguments(emb, ref_emb, anchor, positive, negative);
  const TripletArguments arguments(emb, ref_emb, anchor, positive, negative);
  const Distance kind = parse_distance(distance);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const TripletRows<T> rows(arguments, kind);
    Tensor out = torch::stable::new_empty(
        emb, {arguments.count()},
        std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float);
    T* losses = static_cast<T*>(out.data_ptr());
    const int64_t *a = arguments.data(arguments.anchor), *p = arguments.data(arguments.positive),
                  *n = arguments.data(arguments.negative);
    const T poison = rows.finite() ? T(0) : std::numeric_limits<T>::quiet_NaN();
    const double work = double(arguments.count()) * double(emb.size(1)) / 2;
    parallel_rows(arguments.count(), kTripletGrain, work, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        T d_n = rows.distance_between(a[t], n[t]);
        if (swap) d_n = swapped_distance(d_n, rows.distance_of_candidates(p[t], n[t]));
        const T v = rows.distance_between(a[t], p[t]) - d_n;
        losses[t] = hinge(v + T(margin), smooth) + poison;
      }
    });
    return out;
  });
}

std::tuple<Tensor, Tensor> triplet_losses_backward(const Tensor& grad, const Tensor& emb,
                                                   const std::optional<Tensor>& ref_emb,
                                                   const Tensor& anchor, const Tensor& positive,
                                                   const Tensor& negative, double margin,
                                                   const std::string& distance, bool smooth,
                                                   bool swap) {
  check_triplet_arguments(emb, ref_emb, anchor, positive, negative);
  check_loss_gradient(grad, emb, anchor);
  const TripletArguments arguments(emb, ref_emb, anchor, positive, negative);
  const Distance kind = parse_distance(distance);
  using Gradients = std::tuple<Tensor, Tensor>;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Gradients {
    using T = decltype(zero);
    const Tensor weights = torch::stable::contiguous(grad);
    const T* weight = static_cast<const T*>(weights.data_ptr());
    const TripletRows<T> rows(arguments, kind);
    const int64_t count = arguments.count(), dim = emb.size(1);
    const int64_t *a = arguments.data(arguments.anchor), *p = arguments.data(arguments.positive),
                  *n = arguments.data(arguments.negative);

    // Two edges per triplet from its anchor and, swapping, one from its positive to its negative.
    EdgeList<T> edges(rows.emb.count(), 2 * count);
    const Buffer<int64_t> slot = group_edges(a, count, 2, edges);
    const int64_t swaps = swap ? count : 0;
    const int64_t swapped_rows = swap ? rows.candidates().count() : 0;
    EdgeList<T> swapped(swapped_rows, swaps);
    const Buffer<int64_t> swapped_slot = group_edges(p, swaps, 1, swapped);
    const double work = double(count) * double(dim) / 2;
    parallel_rows(count, kTripletGrain, work, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T d_ap = rows.distance_between(a[t], p[t]), d_an = rows.distance_between(a[t], n[t]);
        const T d_pn = swap ? rows.distance_of_candidates(p[t], n[t]) : T(0);
        const T d_n = swap ? swapped_distance(d_an, d_pn) : d_an;
        const T share = swap ? anchor_share(d_an, d_pn) : T(1);
        const T slope = weight[t] * hinge_slope(d_ap - d_n + T(margin), smooth);
        edges.other[slot[t]] = int32_t(p[t]);
        edges.coefficient[slot[t]] = slope * distance_slope(kind, d_ap);
        edges.other[slot[t] + 1] = int32_t(n[t]);
        edges.coefficient[slot[t] + 1] = -slope * share * distance_slope(kind, d_an);
        if (!swap) continue;
        swapped.other[swapped_slot[t]] = int32_t(n[t]);
        swapped.coefficient[swapped_slot[t]] = -slope * (T(1) - share) * distance_slope(kind, d_pn);
      }
    });
    const EdgeList<T> reversed = transpose(edges, rows.candidates().count());
    const EdgeList<T> swapped_reversed = transpose(swapped, swapped_rows);

    const T scale = rows.finite() ? T(1) : std::numeric_limits<T>::quiet_NaN();
    Tensor emb_grad = torch::stable::new_empty(emb, {emb.size(0), dim}, kValueType<T>);
    Tensor ref_grad =
        torch::stable::new_empty(emb, {ref_emb ? ref_emb->size(0) : 0, dim}, kValueType<T>);
    T* emb_out = static_cast<T*>(emb_grad.data_ptr());
    const T *x = rows.emb.values(), *y = rows.candidates().values();
    std::vector<Edges<T>> of_anchors = {edges.view(y)}, of_candidates = {reversed.view(x)};
    if (swap) {
      of_candidates.push_back(swapped.view(y));
      of_candidates.push_back(swapped_reversed.view(y));
    }
    if (rows.ref) {
      gather(*rows.ref, of_candidates, kind, scale, static_cast<T*>(ref_grad.data_ptr()));
    } else {
      of_anchors.insert(of_anchors.end(), of_candidates.begin(), of_candidates.end());
    }
    gather(rows.emb, of_anchors, kind, scale, emb_out);
    return {emb_grad, ref_grad};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("triplet_losses", TORCH_BOX(&triplet_losses));
  m.impl("triplet_losses_backward", TORCH_BOX(&triplet_losses_backward));
}

}  // namespace facenet::cpu
