// pairs_within on the CPU: the pair stream with the within epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>

#include "common/neighbours.h"
#include "cpu/unlabelled_batch.h"

namespace facenet::cpu {
namespace {

// -> pairs [capacity, 2], distances [capacity], count []
PairsAndCount pairs_within(const PairsWithinArguments& arguments) {
  const Tensor& emb = arguments.rows.emb;
  const int64_t capacity = arguments.capacity;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> PairsAndCount {
    using T = decltype(zero);
    Tensor pairs = torch::stable::new_empty(emb, {capacity, 2}, ScalarType::Long);
    Tensor distances = torch::stable::new_empty(emb, {capacity}, kValueType<T>);
    Tensor count = torch::stable::new_empty(emb, {}, ScalarType::Long);
    const UnlabelledBatch<T> batch(arguments.rows);
    std::atomic<int64_t> total{0};
    kernels<T>().within(batch.pairs(), {T(arguments.radius), capacity, &total,
                                        static_cast<int64_t*>(pairs.data_ptr()),
                                        static_cast<T*>(distances.data_ptr())});
    *static_cast<int64_t*>(count.data_ptr()) = total;
    return {pairs, distances, count};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("pairs_within", TORCH_BOX(&front::pairs_within<pairs_within>));
}

}  // namespace facenet::cpu
