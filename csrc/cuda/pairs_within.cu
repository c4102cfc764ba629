// pairs_within on CUDA: the pair stream with the within epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/neighbours.h"
#include "cuda/device.h"
#include "cuda/epilogues/within.cuh"
#include "cuda/search.cuh"
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
    stream_by_differences<T, WithinEpilogue<T>>(
        "pairs within a radius", device, batch.pairs,
        {T(arguments.radius), capacity, static_cast<unsigned long long*>(count.data_ptr()),
         static_cast<int64_t*>(pairs.data_ptr()), static_cast<T*>(distances.data_ptr())},
        Guard{}, batch.pairs.self);
    return {pairs, distances, count};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("pairs_within", TORCH_BOX(&front::pairs_within<pairs_within>));
}

}  // namespace facenet::cuda
