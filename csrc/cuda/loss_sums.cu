#include "cuda/loss_sums.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

constexpr int kReduceThreads = 512;
constexpr int kReduceWarps = kReduceThreads / 32;

// One block adds up the anchors, always in the same order. Shared memory: a word of each per warp.
template <class T, class Count>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_losses(const LossSums<T, Count> sums, const int32_t anchors, const Reduction how,
                  const RowFlags* flags, const ClassSizes* sizes, T* loss_out, T* scale_out,
                  double* totals_out) {
  __shared__ T losses[kReduceWarps];
  __shared__ int64_t triplet_counts[kReduceWarps], nonzero_counts[kReduceWarps];
  T loss = 0;
  int64_t triplets = 0, nonzero = 0;
  for (int32_t i = int32_t(threadIdx.x); i < anchors; i += kReduceThreads) {
    loss += sums.loss[i];
    triplets += sums.triplets[i];
    nonzero += sums.nonzero[i];
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
  const bool there = lane() < kReduceWarps;
  loss = warp_sum(there ? losses[lane()] : T(0));
  triplets = warp_sum(there ? triplet_counts[lane()] : 0);
  nonzero = warp_sum(there ? nonzero_counts[lane()] : 0);
  if (lane() != 0) return;
  // Without triplets the sum is 0, so any divisor but 0 will do.
  T divisor = 1;
  if (how == Reduction::kMean) divisor = T(triplets > 0 ? triplets : 1);
  if (how == Reduction::kMeanNonzero) divisor = T(nonzero > 0 ? nonzero : 1);
  if (flags->not_finite != 0 || sizes->over_the_bound != 0) divisor = loss = T(NAN);
  *loss_out = loss / divisor;
  *scale_out = T(1) / divisor;
  totals_out[0] = double(loss);
  totals_out[1] = double(triplets);
  totals_out[2] = double(nonzero);
}

}  // namespace

template <class T, class Count>
void reduce(const Device& device, const Sizes& sizes, const LossSums<T, Count>& sums,
            int32_t anchors, Reduction how, const RowFlags* flags, const ClassSizes* class_sizes,
            const ReducedLoss<T>& to) {
  launch("reduce_losses", sizes, device.stream(), {1, kReduceThreads}, reduce_losses<T, Count>,
         sums, anchors, how, flags, class_sizes, to.loss, to.scale, to.totals);
}

template void reduce(const Device&, const Sizes&, const LossSums<float, int32_t>&, int32_t,
                     Reduction, const RowFlags*, const ClassSizes*, const ReducedLoss<float>&);
template void reduce(const Device&, const Sizes&, const LossSums<double, int32_t>&, int32_t,
                     Reduction, const RowFlags*, const ClassSizes*, const ReducedLoss<double>&);
template void reduce(const Device&, const Sizes&, const LossSums<float, int64_t>&, int32_t,
                     Reduction, const RowFlags*, const ClassSizes*, const ReducedLoss<float>&);
template void reduce(const Device&, const Sizes&, const LossSums<double, int64_t>&, int32_t,
                     Reduction, const RowFlags*, const ClassSizes*, const ReducedLoss<double>&);

}  // namespace facenet::cuda
