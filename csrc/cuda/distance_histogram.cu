// distance_histogram on CUDA: the pair stream with the histogram epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/device.h"
#include "cuda/epilogues/histogram.cuh"
#include "cuda/search.cuh"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> [2, windows * (bins + 1) + 2]
Tensor distance_histogram(const DistanceHistogramArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const std::optional<Tensor>& ref_labels = arguments.batch.ref_labels;
  const Bins& bins = arguments.bins;
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const UnlabelledBatch<T> batch(device, emb, arguments.batch.ref_emb, arguments.batch.distance);
    const Tensor anchor_labels = torch::stable::contiguous(arguments.batch.labels);
    const Tensor candidate_labels =
        ref_labels ? torch::stable::contiguous(*ref_labels) : anchor_labels;
    Tensor out = torch::stable::new_empty(emb, {2, bins.columns()}, ScalarType::Long);
    check_cuda(
        cudaMemsetAsync(out.data_ptr(), 0, size_t(out.numel()) * sizeof(int64_t), device.stream()),
        "clearing counts");
    stream_by_differences<T, HistogramEpilogue<T>>(
        "histogram of distances", device, batch.pairs,
        {bins, static_cast<const int64_t*>(anchor_labels.data_ptr()),
         static_cast<const int64_t*>(candidate_labels.data_ptr()),
         static_cast<unsigned long long*>(out.data_ptr())},
        Guard{}, batch.pairs.self);
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("distance_histogram", TORCH_BOX(&front::distance_histogram<distance_histogram>));
}

}  // namespace facenet::cuda
