// distance_histogram on CUDA: the pair stream with the histogram epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/histogram_arguments.h"
#include "common/mining_arguments.h"
#include "cuda/device.h"
#include "cuda/epilogues/histogram.cuh"
#include "cuda/prepare.h"
#include "cuda/search.cuh"

namespace facenet::cuda {
namespace {

template <class T>
struct HistogramArrays {
  int64_t anchors = 0, candidates = 0;
  bool cosine = false, reference = false;
  RowFlags* flags = nullptr;
  T* anchor_norms = nullptr;
  T* candidate_norms = nullptr;

  void place(Workspace& w) {
    flags = w.take<RowFlags>(1);
    anchor_norms = cosine ? w.take<T>(anchors) : nullptr;
    candidate_norms = cosine && reference ? w.take<T>(candidates) : anchor_norms;
  }
};

// -> [2, bins + 2]
Tensor distance_histogram(const Tensor& emb, const Tensor& labels,
                          const std::optional<Tensor>& ref_emb,
                          const std::optional<Tensor>& ref_labels, const std::string& distance,
                          int64_t low, int64_t shift, int64_t bins) {
  const std::optional<Tensor> none;
  const Distance kind = parse_distance(distance);
  MiningArguments{emb, labels, ref_emb, ref_labels, none, none, kind}.check();
  const Bins checked = check_bins(emb.scalar_type(), low, shift, bins);
  const Device device(emb);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const Tensor anchors = torch::stable::contiguous(emb);
    const Tensor candidates = ref_emb ? torch::stable::contiguous(*ref_emb) : anchors;
    const Tensor anchor_labels = torch::stable::contiguous(labels);
    const Tensor candidate_labels =
        ref_labels ? torch::stable::contiguous(*ref_labels) : anchor_labels;

    HistogramArrays<T> sizes;
    sizes.anchors = anchors.size(0);
    sizes.candidates = candidates.size(0);
    sizes.cosine = kind == Distance::kCosine;
    sizes.reference = ref_emb.has_value();
    const Scratch<HistogramArrays<T>> arrays(emb, sizes);
    check_cuda(cudaMemsetAsync(arrays.flags, 0, sizeof(RowFlags), device.stream()),
               "clearing flags");
    Pairs<T> pairs{};
    pairs.anchors = rows_of<T>(anchors, kind);
    pairs.candidates = rows_of<T>(candidates, kind);
    pairs.anchors.inverse_norms = arrays.anchor_norms;
    pairs.candidates.inverse_norms = arrays.candidate_norms;
    pairs.self = !ref_emb;
    T* no_terms = nullptr;
    if (sizes.cosine) {
      prepare_rows(device, pairs.anchors, arrays.anchor_norms, no_terms, arrays.flags);
      if (ref_emb) {
        prepare_rows(device, pairs.candidates, arrays.candidate_norms, no_terms, arrays.flags);
      }
    }

    Tensor out = torch::stable::new_empty(emb, {2, checked.columns()}, ScalarType::Long);
    check_cuda(
        cudaMemsetAsync(out.data_ptr(), 0, size_t(out.numel()) * sizeof(int64_t), device.stream()),
        "clearing counts");
    stream_by_differences<T, HistogramEpilogue<T>>(
        "histogram of distances", device, pairs,
        {checked, static_cast<const int64_t*>(anchor_labels.data_ptr()),
         static_cast<const int64_t*>(candidate_labels.data_ptr()),
         static_cast<unsigned long long*>(out.data_ptr())},
        Guard{}, pairs.self);
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("distance_histogram", TORCH_BOX(&distance_histogram));
}

}  // namespace facenet::cuda
