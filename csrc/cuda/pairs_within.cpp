// pairs_within on CUDA: the operator.
#include "cuda/pairs_within.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/neighbours.h"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> pairs [capacity, 2], distances [capacity], count []
PairsAndCount pairs_within(const PairsWithinArguments& arguments) {
  const Tensor& emb = arguments.rows.emb;
  const int64_t capacity = arguments.capacity;
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> PairsAndCount {
    using T = decltype(zero);
    Tensor pairs = torch::stable::new_empty(emb, {capacity, 2}, ScalarType::Long);
    Tensor distances = torch::stable::new_empty(emb, {capacity}, kValueType<T>);
    Tensor count = torch::stable::new_empty(emb, {}, ScalarType::Long);
    check_cuda(cudaMemsetAsync(count.data_ptr(), 0, sizeof(int64_t), device.stream()),
               "clearing the count");
    const UnlabelledBatch<T> batch(device, emb, arguments.rows.ref_emb, arguments.rows.distance);
    find_pairs_within(device, batch.pairs,
                      {T(arguments.radius), capacity, data_of<unsigned long long>(count),
                       data_of<int64_t>(pairs), data_of<T>(distances)});
    return {pairs, distances, count};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("pairs_within", TORCH_BOX(&front::pairs_within<pairs_within>));
}

}  // namespace facenet::cuda
