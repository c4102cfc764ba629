// The rows and labels of a call, made ready for the kernels.
#pragma once

#include <optional>

#include "common/batch_arguments.h"
#include "cpu/rows.h"

namespace facenet::cpu {

// Rows, labels and all pairs, owned in one place.
template <class T>
class LabelledBatch {
 public:
  explicit LabelledBatch(const BatchArguments& arguments);

  Rows<T> emb;
  std::optional<Rows<T>> ref;

 private:
  Buffer<int64_t> labels_, ref_labels_, anchor_ids_, ref_ids_;

 public:
  PairSet<T> set;
  Buffer<int32_t> position;  // of the caller's anchors in the sorted order

  const Rows<T>& candidates() const { return ref ? *ref : emb; }
  bool finite() const { return emb.finite() && (!ref || ref->finite()); }
  // The caller's row of a candidate position.
  int32_t row_of(int32_t candidate) const { return set.candidates().order()[candidate]; }
};

}  // namespace facenet::cpu
