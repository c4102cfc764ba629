// pairs_within on CUDA: the pair stream with the within epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "common/neighbour_arguments.h"
#include "cuda/device.h"
#include "cuda/epilogues/within.cuh"
#include "cuda/search.cuh"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> pairs [capacity, 2], distances [capacity], count []
std::tuple<Tensor, Tensor, Tensor> pairs_within(const Tensor& emb,
                                                const std::optional<Tensor>& ref_emb, double radius,
                                                const std::string& distance, int64_t capacity) {
  const NeighbourArguments arguments{emb, ref_emb, parse_distance(distance)};
  arguments.check();
  check_capacity(capacity);
  const Device device(emb);
  return dispatch_compute_type(
      emb.scalar_type(), [&](auto zero) -> std::tuple<Tensor, Tensor, Tensor> {
        using T = decltype(zero);
        Tensor pairs = torch::stable::new_empty(emb, {capacity, 2}, ScalarType::Long);
        Tensor distances = torch::stable::new_empty(emb, {capacity}, kValueType<T>);
        Tensor count = torch::stable::new_empty(emb, {}, ScalarType::Long);
        check_cuda(cudaMemsetAsync(count.data_ptr(), 0, sizeof(int64_t), device.stream()),
                   "clearing the count");
        const UnlabelledBatch<T> batch(device, emb, ref_emb, arguments.distance);
        stream_by_differences<T, WithinEpilogue<T>>(
            "pairs within a radius", device, batch.pairs,
            {T(radius), capacity, static_cast<unsigned long long*>(count.data_ptr()),
             static_cast<int64_t*>(pairs.data_ptr()), static_cast<T*>(distances.data_ptr())},
            Guard{}, batch.pairs.self);
        return {pairs, distances, count};
      });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("pairs_within", TORCH_BOX(&pairs_within));
}

}  // namespace facenet::cuda
