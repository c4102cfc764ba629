// softmax_loss on CUDA: the loss of a softmax over each anchor's pairs, and its gradient.
#include "cuda/softmax_loss.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/labelled_batch.h"
#include "cuda/tensors.h"

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
    sizes.stripes = pass.stripe_count();
    const Scratch<SoftmaxArrays<T>> arrays(device, sizes);
    SoftmaxArguments<T> softmax{arguments.loss, T(arguments.temperature), pairs,      true,
                                false,          arrays.anchors,           arrays.sums};
    find_softmax_losses(pass, softmax, arguments.partial, arrays.losses);
    Tensor loss = torch::stable::new_empty(emb, {}, kValueType<T>);
    const Tensor totals = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    reduce(device, sizes_of(pairs), arrays.losses, pairs.anchors.count,
           {arguments.reduction, batch.flags(), batch.class_sizes(), data_of<T>(loss), arrays.scale,
            data_of<double>(totals)});

    const auto gradient = [&](const PushPass<T>& over, bool wanted, int64_t rows) {
      Tensor out = empty_gradient(emb, kValueType<T>, wanted, rows);
      if (out.numel() == 0) return out;
      const PartialGradient<T> partial(over, true);
      push_softmax(over, softmax, partial.data());
      Gathered<T> gathered{};
      gathered.scale = arrays.scale;
      partial.add_to(gathered);
      gather(device, gathered, data_of<T>(out));
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
