// select_triplets on CUDA: the operator.
#include "cuda/select_triplets.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/labelled_batch.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

Triplets select_triplets(const SelectTripletsArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Triplets {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch, !is_random(arguments.rule.negatives));
    const Selection<T> selection(batch, arguments.rule);
    const Tensor firsts = torch::stable::new_empty(emb, {emb.size(0) + 1}, ScalarType::Long);
    int64_t* const first = data_of<int64_t>(firsts);
    const int64_t total =
        count_triplets(batch.device, batch.pairs, batch.slots(), selection.arrays(), first);

    const auto list = [&](ScalarType type) { return torch::stable::new_empty(emb, {total}, type); };
    Tensor a = list(ScalarType::Long), p = list(ScalarType::Long), n = list(ScalarType::Long);
    Tensor d_ap = list(kValueType<T>), d_an = list(kValueType<T>);
    list_triplets(batch.device, batch.pairs, batch.slots(), selection.arrays(), first,
                  {data_of<int64_t>(a), data_of<int64_t>(p), data_of<int64_t>(n), data_of<T>(d_ap),
                   data_of<T>(d_an)});
    return {a, p, n, d_ap, d_an};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("select_triplets", TORCH_BOX(&front::select_triplets<select_triplets>));
}

}  // namespace facenet::cuda
