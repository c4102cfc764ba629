// distance_histogram on CUDA: the pair stream with the histogram epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/batch_arguments.h"
#include "common/histogram_arguments.h"
#include "cuda/device.h"
#include "cuda/epilogues/histogram.cuh"
#include "cuda/search.cuh"
#include "cuda/unlabelled_batch.h"

namespace facenet::cuda {
namespace {

// -> [2, windows * (bins + 1) + 2]
Tensor distance_histogram(const Tensor& emb, const Tensor& labels,
                          const std::optional<Tensor>& ref_emb,
                          const std::optional<Tensor>& ref_labels, const std::string& distance,
                          const std::vector<int64_t>& low, int64_t shift, int64_t bins) {
  const std::optional<Tensor> none;
  const Distance kind = parse_distance(distance);
  BatchArguments{emb, labels, ref_emb, ref_labels, none, none, kind}.check();
  const Bins checked = check_bins(emb.scalar_type(), low, shift, bins);
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const UnlabelledBatch<T> batch(device, emb, ref_emb, kind);
    const Tensor anchor_labels = torch::stable::contiguous(labels);
    const Tensor candidate_labels =
        ref_labels ? torch::stable::contiguous(*ref_labels) : anchor_labels;
    Tensor out = torch::stable::new_empty(emb, {2, checked.columns()}, ScalarType::Long);
    check_cuda(
        cudaMemsetAsync(out.data_ptr(), 0, size_t(out.numel()) * sizeof(int64_t), device.stream()),
        "clearing counts");
    stream_by_differences<T, HistogramEpilogue<T>>(
        "histogram of distances", device, batch.pairs,
        {checked, static_cast<const int64_t*>(anchor_labels.data_ptr()),
         static_cast<const int64_t*>(candidate_labels.data_ptr()),
         static_cast<unsigned long long*>(out.data_ptr())},
        Guard{}, batch.pairs.self);
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("distance_histogram", TORCH_BOX(&distance_histogram));
}

}  // namespace facenet::cuda
