// triplet_losses on CUDA: the kernels with a warp for each given triplet.
#include <algorithm>

#include "cuda/launch.h"
#include "cuda/rows.cuh"
#include "cuda/triplet_losses.h"
#include "cuda/warp.cuh"
#include "semantics/hinge.h"
#include "semantics/swap.h"

namespace facenet::cuda {
namespace {

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
Sizes sizes_of(const Sides<T>& sides, const TripletRows& rows) {
  return {{"M", sides.anchors.count},
          {"N", sides.candidates.count},
          {"D", sides.anchors.dim},
          {"T", rows.count}};
}

}  // namespace

template <class T>
void find_losses_of_triplets(const Device& device, const Sides<T>& sides, const TripletRows& rows,
                             double margin, bool smooth, bool swap, T* losses) {
  launch("losses_of_triplets", sizes_of(sides, rows), device.stream(),
         {blocks_of_warps(rows.count), kBlock}, losses_of_triplets<T>, sides, rows, T(margin),
         smooth, swap, losses);
}

template <class T>
void find_edges_of_triplets(const Device& device, const Sides<T>& sides, const TripletRows& rows,
                            double margin, bool smooth, bool swap, const T* grad, RowFlags* flags,
                            const TripletEdges<T>& to) {
  const Sizes sizes = sizes_of(sides, rows);
  launch("look_at_triplets", sizes, device.stream(), {blocks_of_threads(rows.count), kBlock},
         look_at_triplets<T>, sides, rows, flags);
  launch("edges_of_triplets", sizes, device.stream(),
         {blocks_of_warps(std::max<int64_t>(rows.count, 1)), kBlock}, edges_of_triplets<T>, sides,
         rows, T(margin), smooth, swap, grad, to.row, to.edge, to.scale);
}

template void find_losses_of_triplets(const Device&, const Sides<float>&, const TripletRows&,
                                      double, bool, bool, float*);
template void find_losses_of_triplets(const Device&, const Sides<double>&, const TripletRows&,
                                      double, bool, bool, double*);
template void find_edges_of_triplets(const Device&, const Sides<float>&, const TripletRows&, double,
                                     bool, bool, const float*, RowFlags*,
                                     const TripletEdges<float>&);
template void find_edges_of_triplets(const Device&, const Sides<double>&, const TripletRows&,
                                     double, bool, bool, const double*, RowFlags*,
                                     const TripletEdges<double>&);

}  // namespace facenet::cuda
