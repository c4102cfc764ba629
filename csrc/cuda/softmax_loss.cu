// softmax_loss on CUDA: the loss of a softmax over each anchor's pairs, and its gradient.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/epilogues/softmax.cuh"
#include "cuda/labelled_batch.h"
#include "cuda/loss_sums.cuh"

namespace facenet::cuda {
namespace {

// [M] unless said.
template <class T>
struct SoftmaxArrays {
  int64_t count = 0, stripes = 0;
  SoftmaxAnchors<T> anchors{};
  SoftmaxSum<T>* sums = nullptr;  // [stripes, M]
  LossSums<T, int64_t> losses{};
  T* scale = nullptr;  // [1]

  void place(Workspace& w) {
    anchors = {w.take<T>(count), w.take<T>(count), w.take<T>(count), w.take<T>(count)};
    sums = w.take<SoftmaxSum<T>>(stripes * count);
    losses = {w.take<T>(count), w.take<int64_t>(count), w.take<int64_t>(count)};
    scale = w.take<T>(1);
  }
};

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

LossAndGradients softmax_loss(const SoftmaxLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch, false, false);
    const Device& device = batch.device;
    const Pairs<T>& pairs = batch.pairs;
    const PushPass<T> pass(device, pairs.anchors, pairs.candidates);
    SoftmaxArrays<T> sizes;
    sizes.count = emb.size(0);
    sizes.stripes = pass.stripes();
    const Scratch<SoftmaxArrays<T>> arrays(emb, sizes);
    const std::string shapes = sizes_of(pairs);
    SoftmaxArguments<T> softmax{arguments.loss, T(arguments.temperature), pairs,      true,
                                false,          arrays.anchors,           arrays.sums};

    launch("clear_sums", shapes, device.stream(),
           {blocks_of_threads(sizes.stripes * sizes.count), kBlock}, clear_sums<T>,
           sizes.stripes * sizes.count, arrays.sums);
    pass.template run<SoftmaxSums<T>>("softmax_sums", softmax);
    launch("finish_anchors", shapes, device.stream(), {blocks_of_warps(sizes.count), kBlock},
           finish_anchors<T>, softmax, sizes.stripes, arguments.partial, arrays.losses);
    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    launch("reduce_losses", shapes, device.stream(), {1, kReduceThreads}, reduce_losses<T, int64_t>,
           arrays.losses, pairs.anchors.count, arguments.reduction, batch.flags(),
           batch.class_sizes(), static_cast<T*>(loss.data_ptr()), arrays.scale,
           static_cast<double*>(totals.data_ptr()));

    const auto gradient = [&](const PushPass<T>& over, bool wanted, int64_t rows) {
      Tensor out = empty_gradient(emb, kValueType<T>, wanted, rows);
      if (out.numel() == 0) return out;
      const Tensor partial = over.partial_gradient(emb, true);
      over.template run<SoftmaxWeights<T>>("softmax_push", softmax, over.data(partial));
      Gathered<T> gathered{};
      gathered.scale = arrays.scale;
      over.add_to(gathered, partial);
      gather(device, gathered, static_cast<T*>(out.data_ptr()));
      return out;
    };
    softmax.columns = pairs.self;
    Tensor emb_out = gradient(pass, arguments.emb_grad, emb.size(0));
    softmax.rows = false;
    softmax.columns = true;
    const PushPass<T> other_pass(device, pairs.candidates, pairs.anchors);
    Tensor ref_out = gradient(other_pass, arguments.ref_grad, pairs.candidates.count);
    return {loss, emb_out, ref_out, totals};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("softmax_loss", TORCH_BOX(&front::softmax_loss<softmax_loss>));
}

}  // namespace facenet::cuda
