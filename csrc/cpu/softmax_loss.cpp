// softmax_loss on the CPU: the loss of a softmax over each anchor's pairs, and its gradient.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/labelled_operators.h"
#include "cpu/edges.h"
#include "cpu/labelled_batch.h"
#include "cpu/loss_totals.h"

namespace facenet::cpu {
namespace {

template <class T>
struct SoftmaxArrays {
  Buffer<T> closest, log_sum, factor, share;
  Buffer<double> sum, terms, slopes;
  Buffer<int64_t> positives;

  explicit SoftmaxArrays(int64_t anchors) {
    const int64_t size = panel_count(anchors) * kPanel;
    const auto fill = [size](auto& buffer, auto value) {
      buffer = std::decay_t<decltype(buffer)>(size);
      std::fill(buffer.begin(), buffer.end(), value);
    };
    fill(closest, std::numeric_limits<T>::infinity());
    for (Buffer<T>* buffer : {&log_sum, &factor, &share}) fill(*buffer, T(0));
    for (Buffer<double>* buffer : {&sum, &terms, &slopes}) fill(*buffer, 0.0);
    fill(positives, int64_t(0));
  }

  SoftmaxAnchors<T> view() {
    return {closest.data(),   sum.data(),     terms.data(),  slopes.data(),
            positives.data(), log_sum.data(), factor.data(), share.data()};
  }
};

// What all anchors add up to, in order, and what the weights of their pairs are made of.
template <class T>
LossTotals finish_anchors(const SoftmaxKernel<T>& kernel, bool partial) {
  const Pairs<T>& pairs = *kernel.pairs;
  const SoftmaxAnchors<T>& a = kernel.anchors;
  LossTotals totals;
  if (!partial &&
      !has_negatives(pairs.class_begin, pairs.class_end, pairs.anchors.rows, pairs.candidates.rows))
    return totals;
  for (int64_t i = 0; i < pairs.anchors.rows; ++i) {
    const int64_t positives = a.positives[i];
    const int64_t negatives = pairs.candidates.rows - (pairs.class_end[i] - pairs.class_begin[i]);
    const double share = softmax_share<double>(kernel.loss, positives);
    totals.add(positives ? share * a.terms[i] : 0, softmax_counted(kernel.loss, positives),
               softmax_nonzero(kernel.loss, positives, negatives));
    if (positives == 0) continue;
    a.log_sum[i] = T(std::log(a.sum[i]));
    a.share[i] = T(share / kernel.temperature);
    a.factor[i] = a.sum[i] > 0 ? T(share * a.slopes[i] / a.sum[i] / kernel.temperature) : T(0);
  }
  return totals;
}

LossAndGradients softmax_loss(const SoftmaxLossArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> LossAndGradients {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch);
    SoftmaxArrays<T> arrays(emb.size(0));
    SoftmaxKernel<T> kernel{
        arguments.loss, T(arguments.temperature), &batch.set.pairs(), true, false, arrays.view()};
    kernels<T>().softmax_sums(kernel);
    kernels<T>().softmax_positives(kernel);
    LossTotals totals = finish_anchors(kernel, arguments.partial);
    if (!batch.finite()) totals.poison();
    const Tensor loss = totals.value<T>(emb, arguments.reduction);

    const auto gradient = [&](bool wanted, const Rows<T>& rows, const SortedRows<T>& side) {
      Tensor out = empty_gradient(emb, kValueType<T>, wanted, rows.count());
      if (out.numel() == 0) return out;
      T* const to = static_cast<T*>(out.data_ptr());
      kernels<T>().softmax_push(kernel, side.order().data(), to);
      gather(rows, {}, Distance::kCosine, T(1 / totals.divisor(arguments.reduction)), to, true);
      return out;
    };
    kernel.columns = batch.set.self();
    Tensor emb_out = gradient(arguments.emb_grad, batch.emb, batch.set.anchors());
    kernel.rows = false;
    kernel.columns = true;
    Tensor ref_out = gradient(arguments.ref_grad, batch.candidates(), batch.set.candidates());
    return {loss, emb_out, ref_out, totals.tensor(emb)};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("softmax_loss", TORCH_BOX(&front::softmax_loss<softmax_loss>));
}

}  // namespace facenet::cpu
