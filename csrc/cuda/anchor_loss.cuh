// The loss of an anchor and its edges, by a warp, from what was selected for it.
#pragma once

#include "cuda/mined_triplet_loss.h"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"
#include "semantics/hinge.h"

namespace facenet::cuda {

// What was selected for one anchor: that part of SelectionArrays.
template <class T>
struct AnchorChoices {
  int32_t count, buckets;
  const T* d_ap;  // [count], as are
  const int32_t* choice;
  Winners<T> bucket;    // [buckets]
  Winners<T> farthest;  // [1]

  __device__ T d_an(int32_t k) const {
    return choice[k] == kFarthest ? farthest.farther_distance(0)
                                  : bucket.closer_distance(choice[k]);
  }
};

// In the words of one group of anchors: its anchor `bit` pushes the row.
__device__ __forceinline__ void mark_push(uint32_t* words, uint32_t row, int bit) {
  atomicOr(words + row / 2, 1u << (16 * (row % 2) + uint32_t(bit)));
}

// The hinges of its triplets, added up in a fixed order; where edges are wanted their slopes
// [count], which nothing else reads, and the edges. The triplets that share a negative share one
// edge to it. The anchor has `room` slots from `offset` on. pushes(row) is called for the row of
// every edge to a negative.
template <class T, class Pushes>
__device__ void anchor_loss(int32_t i, const Pairs<T>& pairs, int64_t offset, int32_t room,
                            const AnchorChoices<T>& found, const AnchorLosses<T>& to, T* slopes,
                            const Pushes& pushes) {
  const Distance kind = pairs.anchors.distance;
  const bool smooth = to.smooth;
  T loss = 0, farthest_slopes = 0;
  int32_t triplets = 0, nonzero = 0;
  for (int32_t k = lane(); k < found.count; k += 32) {
    T slope = 0;
    if (found.choice[k] != kNotSelected) {
      const T v = found.d_ap[k] - found.d_an(k) + to.margin;
      const T h = hinge(v, smooth);
      loss += h;
      triplets += 1;
      nonzero += smooth || h > T(0);  // softplus is positive, whatever it rounds to
      slope = hinge_slope(v, smooth);
      if (found.choice[k] == kFarthest) farthest_slopes += slope;
    }
    if (to.gradient) slopes[k] = slope;
  }
  loss = warp_sum(loss);
  triplets = warp_sum(triplets);
  nonzero = warp_sum(nonzero);
  farthest_slopes = warp_sum(farthest_slopes);
  if (lane() == 0) {
    to.sums.loss[i] = loss;
    to.sums.triplets[i] = triplets;
    to.sums.nonzero[i] = nonzero;
  }
  if (!to.gradient) return;
  __syncwarp();
  const EdgeArrays<T>& edges = to.edges;
  const int32_t row = pairs.anchors.row(i);
  const auto put = [&](int64_t at, bool there, uint32_t negative, T weight) {
    if (there) pushes(negative);
    edges.row[at] = there ? negative : kNoRow;
    edges.incoming[at] = {row, there ? weight : T(0)};
  };
  for (int32_t k = lane(); k < room; k += 32) {
    T sum = 0;
    if (k < found.buckets && found.bucket.has(k)) {
      for (int32_t other = 0; other < found.count; ++other) {
        if (found.choice[other] == k) sum += slopes[other];
      }
    }
    const bool there = sum != T(0);
    put(offset + k, there, there ? found.bucket.row(k) : 0,
        there ? -sum * distance_slope(kind, found.bucket.closer_distance(k)) : T(0));
  }
  if (lane() == 0) {
    const bool there = farthest_slopes != T(0);
    put(edges.slots + i, there, there ? found.farthest.row(0) : 0,
        there ? -farthest_slopes * distance_slope(kind, found.farthest.farther_distance(0)) : T(0));
  }
  for (int32_t k = lane(); k < found.count; k += 32) {
    const T slope = slopes[k];
    edges.positive[offset + k] = slope != T(0) ? slope * distance_slope(kind, found.d_ap[k]) : T(0);
  }
}

}  // namespace facenet::cuda
