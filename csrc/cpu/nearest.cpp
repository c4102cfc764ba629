// nearest on the CPU: the pair stream with the nearest epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>

#include "common/neighbours.h"
#include "cpu/unlabelled_batch.h"

namespace facenet::cpu {
namespace {

// -> distances [M, k], indices [M, k]
Neighbours nearest(const NearestArguments& arguments) {
  const Tensor& emb = arguments.rows.emb;
  const int64_t k = arguments.k;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Neighbours {
    using T = decltype(zero);
    const int64_t anchors = emb.size(0), entries = anchors * k;
    Tensor distances = torch::stable::new_empty(emb, {anchors, k}, kValueType<T>);
    Tensor indices = torch::stable::new_empty(emb, {anchors, k}, ScalarType::Long);
    auto* distance_data = static_cast<T*>(distances.data_ptr());
    std::fill_n(distance_data, entries, std::numeric_limits<T>::infinity());
    Buffer<int32_t> positions(entries);
    std::fill_n(positions.data(), entries, -1);
    const UnlabelledBatch<T> batch(arguments.rows);
    kernels<T>().nearest(batch.pairs(), {k, distance_data, positions.data()});
    std::copy(positions.begin(), positions.end(), static_cast<int64_t*>(indices.data_ptr()));
    return {distances, indices};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("nearest", TORCH_BOX(&front::nearest<nearest>));
}

}  // namespace facenet::cpu
