// pairs_within on the CPU: the pair stream with the within epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <tuple>

#include "cpu/unlabelled_batch.h"

namespace facenet::cpu {
namespace {

// -> pairs [capacity, 2], distances [capacity], count []
std::tuple<Tensor, Tensor, Tensor> pairs_within(const Tensor& emb,
                                                const std::optional<Tensor>& ref_emb, double radius,
                                                const std::string& distance, int64_t capacity) {
  const NeighbourArguments arguments{emb, ref_emb, parse_distance(distance)};
  arguments.check();
  check_capacity(capacity);
  return dispatch_compute_type(
      emb.scalar_type(), [&](auto zero) -> std::tuple<Tensor, Tensor, Tensor> {
        using T = decltype(zero);
        Tensor pairs = torch::stable::new_empty(emb, {capacity, 2}, ScalarType::Long);
        Tensor distances = torch::stable::new_empty(emb, {capacity}, kValueType<T>);
        Tensor count = torch::stable::new_empty(emb, {}, ScalarType::Long);
        const UnlabelledBatch<T> batch(arguments);
        std::atomic<int64_t> found{0};
        kernels<T>().within(batch.pairs(),
                            {T(radius), capacity, &found, static_cast<int64_t*>(pairs.data_ptr()),
                             static_cast<T*>(distances.data_ptr())});
        *static_cast<int64_t*>(count.data_ptr()) = found;
        return {pairs, distances, count};
      });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) { m.impl("pairs_within", TORCH_BOX(&pairs_within)); }

}  // namespace facenet::cpu
