// The arguments that select_triplets and the losses over a batch share, checked and made ready.
#pragma once

#include <optional>

#include "common/mining_arguments.h"
#include "cpu/selection.h"

namespace facenet::cpu {

// Rows, labels and all pairs, owned in one place.
template <class T>
class LabelledBatch {
 public:
  explicit LabelledBatch(const MiningArguments& arguments);

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

template <class T>
class Mining : public LabelledBatch<T> {
 public:
  Mining(const MiningArguments& arguments, const SelectionRule& rule)
      : LabelledBatch<T>(arguments), selection(select_triplets(this->set, rule)) {}

  Selection<T> selection;

  // Slots of the caller's anchor a: [begin, end).
  int64_t slots_begin(int64_t a) const { return selection.offset[this->position[a]]; }
  int64_t slots_end(int64_t a) const { return slots_begin(a) + selection.count[this->position[a]]; }
};

}  // namespace facenet::cpu
