// nearest on CUDA: the operator.
#include "cuda/nearest.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/neighbours.h"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> distances [M, k], indices [M, k]
Neighbours nearest(const NearestArguments& arguments) {
  const Tensor& emb = arguments.rows.emb;
  const int64_t anchors = emb.size(0), k = arguments.k;
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Neighbours {
    using T = decltype(zero);
    Tensor distances = torch::stable::new_empty(emb, {anchors, k}, kValueType<T>);
    Tensor indices = torch::stable::new_empty(emb, {anchors, k}, ScalarType::Long);
    const UnlabelledBatch<T> batch(device, emb, arguments.rows.ref_emb, arguments.rows.distance);
    find_nearest(device, batch.pairs, k, data_of<T>(distances), data_of<int64_t>(indices));
    return {distances, indices};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("nearest", TORCH_BOX(&front::nearest<nearest>));
}

}  // namespace facenet::cuda
