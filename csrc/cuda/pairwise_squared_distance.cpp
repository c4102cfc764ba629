// pairwise_squared_distance on CUDA: the pair stream with the store epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/checks.h"
#include "cuda/distances.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

// x [M, D], y [N, D] or none -> [M, N]
Tensor pairwise_squared_distance(const Tensor& x, const std::optional<Tensor>& y) {
  check_sides("x", x, "y", y);
  const Device device(x);
  return dispatch_compute_type(x.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const Tensor anchors = torch::stable::contiguous(x);
    const Tensor candidates = y ? torch::stable::contiguous(*y) : anchors;
    Pairs<T> pairs{};
    pairs.anchors = rows_of<T>(anchors, Distance::kSqEuclidean);
    pairs.candidates = rows_of<T>(candidates, Distance::kSqEuclidean);
    pairs.self = !y;
    Tensor out = torch::stable::new_empty(x, {anchors.size(0), candidates.size(0)}, kValueType<T>);
    store_distances(device, pairs, data_of<T>(out));
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("pairwise_squared_distance", TORCH_BOX(&pairwise_squared_distance));
}

}  // namespace facenet::cuda
