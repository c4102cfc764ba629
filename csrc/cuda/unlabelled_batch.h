// All pairs of rows in the caller's order, with the norms that a cosine needs, for operators that
// see no classes.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <optional>

#include "cuda/launch.h"
#include "cuda/prepare.h"
#include "cuda/tensors.h"
#include "cuda/workspace.h"

namespace facenet::cuda {

template <class T>
struct NormArrays {
  int64_t anchors = 0, candidates = 0;  // rows to keep norms of
  RowFlags* flags = nullptr;
  T* anchor_norms = nullptr;
  T* candidate_norms = nullptr;

  void place(Workspace& w) {
    flags = w.take<RowFlags>(1);
    anchor_norms = w.take<T>(anchors);
    candidate_norms = w.take<T>(candidates);
  }
};

template <class T>
class UnlabelledBatch {
 public:
  UnlabelledBatch(const Device& device, const Tensor& emb, const std::optional<Tensor>& ref_emb,
                  Distance distance)
      : anchors_(torch::stable::contiguous(emb)),
        candidates_(ref_emb ? torch::stable::contiguous(*ref_emb) : anchors_),
        norms_(device, sizes(distance)) {
    pairs.anchors = rows_of<T>(anchors_, distance);
    pairs.candidates = rows_of<T>(candidates_, distance);
    pairs.self = !ref_emb;
    if (distance != Distance::kCosine) return;
    check_cuda(cudaMemsetAsync(norms_.flags, 0, sizeof(RowFlags), device.stream()),
               "clearing flags");
    const PackedRows not_packed{};
    prepare_rows(device, pairs.anchors, norms_.anchor_norms, not_packed, norms_.flags);
    prepare_rows(device, pairs.candidates, norms_.candidate_norms, not_packed, norms_.flags);
    pairs.anchors.inverse_norms = norms_.anchor_norms;
    pairs.candidates.inverse_norms = norms_.candidate_norms;
  }

  Pairs<T> pairs{};

 private:
  NormArrays<T> sizes(Distance distance) const {
    NormArrays<T> sizes;
    if (distance == Distance::kCosine) {
      sizes.anchors = anchors_.size(0);
      sizes.candidates = candidates_.size(0);
    }
    return sizes;
  }

  Tensor anchors_, candidates_;
  Scratch<NormArrays<T>> norms_;
};

}  // namespace facenet::cuda
