// nearest on the CPU: the pair stream with the nearest epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "cpu/unlabelled_batch.h"

namespace facenet::cpu {
namespace {

// -> distances [M, k], indices [M, k]
std::tuple<Tensor, Tensor> nearest(const Tensor& emb, const std::optional<Tensor>& ref_emb,
                                   int64_t k, const std::string& distance) {
  const NeighbourArguments arguments{emb, ref_emb, parse_distance(distance)};
  arguments.check();
  check_neighbour_count(k);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> std::tuple<Tensor, Tensor> {
    using T = decltype(zero);
    const int64_t anchors = emb.size(0), entries = anchors * k;
    Tensor distances = torch::stable::new_empty(emb, {anchors, k}, kValueType<T>);
    Tensor indices = torch::stable::new_empty(emb, {anchors, k}, ScalarType::Long);
    auto* distance_data = static_cast<T*>(distances.data_ptr());
    std::fill_n(distance_data, entries, std::numeric_limits<T>::infinity());
    Buffer<int32_t> found(entries);
    std::fill_n(found.data(), entries, -1);
    const UnlabelledBatch<T> batch(arguments);
    kernels<T>().nearest(batch.pairs(), {k, distance_data, found.data()});
    std::copy(found.begin(), found.end(), static_cast<int64_t*>(indices.data_ptr()));
    return {distances, indices};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) { m.impl("nearest", TORCH_BOX(&nearest)); }

}  // namespace facenet::cpu
