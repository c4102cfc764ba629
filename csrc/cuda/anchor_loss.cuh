// The loss of an anchor and its edges, by a warp, from what was selected for it.
#pragma once

#include "cuda/mined_triplet_loss.h"
#include "cuda/ptx.cuh"
#include "cuda/push_table.cuh"
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

// Of one anchor's triplets.
template <class T>
struct AnchorSums {
  T loss;
  int32_t triplets, nonzero;
};

// Returns the sums of its triplets, added up in a fixed order. Where edges are wanted, writes
// slopes [count], which nothing else reads, and the edges. The triplets that share a negative share
// one edge to it. The anchor has `room` slots from `offset` on. keep(k, push) is called for each of
// them, and with k = `room` for the farthest's. kTogether choices lie together, aligned, as do
// slopes, and are filled up with kNotSelected.
template <int kTogether = 1, class T, class Keep>
__device__ AnchorSums<T> anchor_loss(int32_t i, const Pairs<T>& pairs, int64_t offset, int32_t room,
                                     const AnchorChoices<T>& found, const AnchorLosses<T>& to,
                                     T* slopes, const Keep& keep) {
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
  farthest_slopes = warp_sum(farthest_slopes);
  const AnchorSums<T> sums = {warp_sum(loss), warp_sum(triplets), warp_sum(nonzero)};
  if (!to.gradient) return sums;
  __syncwarp();
  const EdgeArrays<T>& edges = to.edges;
  const int32_t row = pairs.anchors.row(i);
  const auto put = [&](int64_t at, int32_t k, const Push<T>& push) {
    keep(k, push);
    edges.row[at] = push.row;
    if (edges.weight != nullptr) {
      edges.weight[at] = push.weight;
    } else {
      edges.incoming[at] = {row, push.weight};
    }
  };
  constexpr int kEach = 2;  // buckets that a lane adds up together
#pragma unroll 1
  for (int32_t base = 0; base < room; base += 32 * kEach) {
    T sum[kEach] = {};
#pragma unroll(4 / kTogether)
    for (int32_t other = 0; other < found.count; other += kTogether) {
      const Several<int32_t, kTogether> choice = load_several<kTogether>(found.choice + other);
      const Several<T, kTogether> slope = load_several<kTogether>(slopes + other);
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
#pragma unroll
        for (int v = 0; v < kEach; ++v) {
          if (choice.x[n] == base + 32 * v + lane()) sum[v] += slope.x[n];
        }
      }
    }
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      const int32_t k = base + 32 * v + lane();
      if (k >= room) continue;
      Push<T> push = {kNoRow, T(0)};
      if (sum[v] != T(0)) {
        push = {found.bucket.row(k),
                -sum[v] * distance_slope(kind, found.bucket.closer_distance(k))};
      }
      put(offset + k, k, push);
    }
  }
  if (lane() == 0) {
    Push<T> push = {kNoRow, T(0)};
    if (farthest_slopes != T(0)) {
      push = {found.farthest.row(0),
              -farthest_slopes * distance_slope(kind, found.farthest.farther_distance(0))};
    }
    put(edges.slots + i, room, push);
  }
#pragma unroll 1
  for (int32_t k = lane(); k < found.count; k += 32) {
    const T slope = slopes[k];
    edges.positive[offset + k] = slope != T(0) ? slope * distance_slope(kind, found.d_ap[k]) : T(0);
  }
  return sums;
}

}  // namespace facenet::cuda
