// distance_histogram on CUDA: the operator.
#include "cuda/distance_histogram.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> [2, windows * (bins + 1) + 2]
Tensor distance_histogram(const DistanceHistogramArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_labels = arguments.batch.ref_labels;
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const UnlabelledBatch<T> batch(device, emb, arguments.batch.ref_emb, arguments.batch.distance);
    const Tensor anchor_labels = torch::stable::contiguous(arguments.batch.labels);
    const Tensor candidate_labels =
        ref_labels ? torch::stable::contiguous(*ref_labels) : anchor_labels;
    Tensor out = torch::stable::new_empty(emb, {2, arguments.bins.columns()}, ScalarType::Long);
    check_cuda(
        cudaMemsetAsync(out.data_ptr(), 0, size_t(out.numel()) * sizeof(int64_t), device.stream()),
        "clearing counts");
    count_distances(device, batch.pairs,
                    {arguments.bins, data_of<const int64_t>(anchor_labels),
                     data_of<const int64_t>(candidate_labels), data_of<unsigned long long>(out)});
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("distance_histogram", TORCH_BOX(&front::distance_histogram<distance_histogram>));
}

}  // namespace facenet::cuda
