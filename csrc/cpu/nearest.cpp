// nearest on the CPU: the pair stream with the nearest epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>

#include "common/neighbours.h"
#include "cpu/parallel.h"
#include "cpu/unlabelled_batch.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kAnchorGrain = 64;
constexpr int64_t kFewest = 8;  // candidates that join a list before it is cut

// -> distances [M, k], indices [M, k]
Neighbours nearest(const NearestArguments& arguments) {
  const Tensor& emb = arguments.rows.emb;
  const int64_t k = arguments.k;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Neighbours {
    using T = decltype(zero);
    using Candidate = typename Nearest<T>::Candidate;
    const int64_t anchors = emb.size(0);
    Tensor distances = torch::stable::new_empty(emb, {anchors, k}, kValueType<T>);
    Tensor indices = torch::stable::new_empty(emb, {anchors, k}, ScalarType::Long);
    const UnlabelledBatch<T> batch(arguments.rows);
    const int64_t all = batch.pairs().candidates.rows;
    const int64_t capacity = std::max(k, std::min(k + std::max(k, kFewest), all));
    Buffer<Candidate> candidates(anchors * capacity);
    Buffer<int32_t> counts(anchors);
    Buffer<T> bounds(anchors);
    std::fill(counts.begin(), counts.end(), 0);
    std::fill(bounds.begin(), bounds.end(), std::numeric_limits<T>::infinity());
    kernels<T>().nearest(batch.pairs(),
                         {k, capacity, candidates.data(), counts.data(), bounds.data()});
    auto* distance = static_cast<T*>(distances.data_ptr());
    auto* index = static_cast<int64_t*>(indices.data_ptr());
    const double work = 100.0 * double(anchors * k);
    parallel_rows(anchors, kAnchorGrain, work, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Candidate* list = candidates.data() + i * capacity;
        const int64_t found = std::min<int64_t>(counts[i], k);
        std::nth_element(list, list + found, list + counts[i]);
        std::sort(list, list + found);
        for (int64_t e = 0; e < k; ++e) {
          const bool taken = e < found;
          distance[i * k + e] = taken ? list[e].distance : std::numeric_limits<T>::infinity();
          index[i * k + e] = taken ? list[e].position : -1;
        }
      }
    });
    return {distances, indices};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("nearest", TORCH_BOX(&front::nearest<nearest>));
}

}  // namespace facenet::cpu
