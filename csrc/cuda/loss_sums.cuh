// The reduction by one block.
#pragma once

#include "cuda/loss_sums.h"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {

// By all threads of a block: adds up the anchors, always in the same order. A thread waits for
// kEach of them together. Other blocks may have written the sums in the same launch. Shared memory:
// a word of each for a warp.
template <int kThreads, int kEach, class T, class Count>
__device__ void reduce_by_block(const LossSums<T, Count>& sums, int32_t anchors,
                                const LossReduction<T>& to) {
  constexpr int kWarps = kThreads / 32;
  __shared__ T losses[kWarps];
  __shared__ Count triplet_counts[kWarps], nonzero_counts[kWarps];
  T loss = 0;
  Count triplets = 0, nonzero = 0;
#pragma unroll 1
  for (int32_t first = int32_t(threadIdx.x); first < anchors; first += kEach * kThreads) {
#pragma unroll
    for (int n = 0; n < kEach; ++n) {
      const bool there = first + n * kThreads < anchors;
      const int32_t i = there ? first + n * kThreads : first;
      const T own = load_relaxed(sums.loss + i);
      const Count counts[2] = {load_relaxed(sums.triplets + i), load_relaxed(sums.nonzero + i)};
      loss += there ? own : T(0);
      triplets += there ? counts[0] : 0;
      nonzero += there ? counts[1] : 0;
    }
  }
  const int warp = int(threadIdx.x) / 32;
  loss = warp_sum(loss);
  triplets = warp_sum(triplets);
  nonzero = warp_sum(nonzero);
  if (lane() == 0) {
    losses[warp] = loss;
    triplet_counts[warp] = triplets;
    nonzero_counts[warp] = nonzero;
  }
  __syncthreads();
  if (warp != 0) return;
  const bool there = lane() < kWarps;
  loss = warp_sum(there ? losses[lane()] : T(0));
  triplets = warp_sum(there ? triplet_counts[lane()] : Count(0));
  nonzero = warp_sum(there ? nonzero_counts[lane()] : Count(0));
  if (lane() != 0) return;
  // Without triplets the sum is 0, so any divisor but 0 will do.
  T divisor = 1;
  if (to.how == Reduction::kMean) divisor = T(triplets > 0 ? triplets : 1);
  if (to.how == Reduction::kMeanNonzero) divisor = T(nonzero > 0 ? nonzero : 1);
  if (load_relaxed(&to.flags->not_finite) != 0 || to.sizes->over_the_bound != 0) {
    divisor = loss = T(NAN);
  }
  *to.loss = loss / divisor;
  *to.scale = T(1) / divisor;
  to.totals[0] = double(loss);
  to.totals[1] = double(triplets);
  to.totals[2] = double(nonzero);
}

}  // namespace facenet::cuda
