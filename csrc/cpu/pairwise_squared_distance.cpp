// pairwise_squared_distance on the CPU: the pair stream with the store epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/checks.h"
#include "cpu/rows.h"

namespace facenet::cpu {
namespace {

// x [M, D], y [N, D] or none -> [M, N]
Tensor pairwise_squared_distance(const Tensor& x, const std::optional<Tensor>& y) {
  check_sides("x", x, "y", y);
  return dispatch_compute_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    // First, so that a matrix beyond all memory fails before anything is read for it.
    Tensor out =
        torch::stable::new_empty(x, {x.size(0), y ? y->size(0) : x.size(0)}, kValueType<T>);
    const Rows<T> anchors(x, Distance::kSqEuclidean);
    std::optional<Rows<T>> bank;
    std::optional<typename PairSet<T>::Side> side;
    if (y)
      side.emplace(
          typename PairSet<T>::Side{bank.emplace(*y, Distance::kSqEuclidean), nullptr, nullptr});
    const PairSet<T> set({anchors, nullptr, nullptr}, side, Distance::kSqEuclidean);
    kernels<T>().store(set.pairs(), {static_cast<T*>(out.data_ptr())});
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("pairwise_squared_distance", TORCH_BOX(&pairwise_squared_distance));
}

}  // namespace facenet::cpu
