// softmax_loss on CUDA: two passes over all pairs, and the anchors' losses between them.
#include "cuda/epilogues/softmax.cuh"
#include "cuda/softmax_loss.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock, 2) clear_sums(const int64_t count, SoftmaxSum<T>* sums) {
  if (thread_number() < count) sums[thread_number()] = {};
}

// A warp per anchor: the stripes' sums become one, and the positives' terms, which need it, the
// anchor's loss and its weights. Always added up in the same order.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    finish_anchors(const SoftmaxArguments<T> of, const int64_t stripes, const bool partial,
                   const LossSums<T, int64_t> to) {
  const int32_t i = int32_t(warp_number());
  const Pairs<T>& pairs = of.pairs;
  const Rows<T>&x = pairs.anchors, &y = pairs.candidates;
  if (i >= x.count) return;
  SoftmaxSum<T> all;
#pragma unroll 1
  for (int64_t s = 0; s < stripes; ++s) {
    const SoftmaxSum<T>& part = of.sums[s * x.count + i];
    all.add(part.closest, part.sum, of.temperature);
  }
  const T sum = all.sum.value(), log_sum = log(sum);
  CompensatedSum<T> terms, slopes;
  int64_t positives = 0;
#pragma unroll 1
  for (int32_t j = pairs.class_begin[i] + lane(); j < pairs.class_end[i]; j += 32) {
    if (pairs.excluded(i, j)) continue;
    const T d = row_distance(x, x.row(i), y, y.row(j));
    const T v = log_sum + (d - all.closest) / of.temperature;
    terms.add(softmax_term(of.loss, v));
    slopes.add(softmax_slope(of.loss, v));
    positives += 1;
  }
  terms = warp_sum(terms);
  slopes = warp_sum(slopes);
  positives = warp_sum(positives);
  if (lane() != 0) return;
  const bool counts =
      partial || has_negatives(pairs.class_begin, pairs.class_end, x.count, y.count);
  const int64_t negatives = y.count - (pairs.class_end[i] - pairs.class_begin[i]);
  const T share = counts ? softmax_share<T>(of.loss, positives) : T(0);
  to.loss[i] = share > T(0) ? share * terms.value() : T(0);
  to.triplets[i] = softmax_counted(of.loss, positives);
  to.nonzero[i] = softmax_nonzero(of.loss, positives, negatives);
  of.anchors.closest[i] = all.closest;
  of.anchors.log_sum[i] = log_sum;
  of.anchors.share[i] = share / of.temperature;
  of.anchors.factor[i] =
      share > T(0) && sum > T(0) ? share * slopes.value() / sum / of.temperature : T(0);
}

}  // namespace

template <class T>
void find_softmax_losses(const PushPass<T>& pass, const SoftmaxArguments<T>& of, const bool partial,
                         const LossSums<T, int64_t>& losses) {
  const Sizes sizes = sizes_of(of.pairs);
  const cudaStream_t stream = pass.device.stream();
  const int64_t anchors = of.pairs.anchors.count, sums = pass.stripe_count() * anchors;
  launch("clear_sums", sizes, stream, {blocks_of_threads(sums), kBlock}, clear_sums<T>, sums,
         of.sums);
  T* no_gradient = nullptr;
  push<SoftmaxSums<T>>("softmax_sums", pass, of, no_gradient);
  launch("finish_anchors", sizes, stream, {blocks_of_warps(anchors), kBlock}, finish_anchors<T>, of,
         pass.stripe_count(), partial, losses);
}

template <class T>
void push_softmax(const PushPass<T>& pass, const SoftmaxArguments<T>& of, T* gradient) {
  push<SoftmaxWeights<T>>("softmax_push", pass, of, gradient);
}

template void find_softmax_losses(const PushPass<float>&, const SoftmaxArguments<float>&, bool,
                                  const LossSums<float, int64_t>&);
template void find_softmax_losses(const PushPass<double>&, const SoftmaxArguments<double>&, bool,
                                  const LossSums<double, int64_t>&);
template void push_softmax(const PushPass<float>&, const SoftmaxArguments<float>&, float*);
template void push_softmax(const PushPass<double>&, const SoftmaxArguments<double>&, double*);

}  // namespace facenet::cuda
