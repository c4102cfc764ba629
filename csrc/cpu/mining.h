// The arguments that select_triplets and mined_triplet_loss share, checked and made ready.
#pragma once

#include <optional>

#include "common/mining_arguments.h"
#include "cpu/selection.h"

namespace facenet::cpu {

// Everything a selection needs, owned in one place.
template <class T>
class Mining {
 public:
  Mining(const MiningArguments& arguments, const SelectionRule& rule);

  Rows<T> emb;
  std::optional<Rows<T>> ref;

 private:
  Buffer<int64_t> labels_, ref_labels_, anchor_ids_, ref_ids_;

 public:
  PairSet<T> set;
  Selection<T> selection;
  Buffer<int32_t> position;  // of the caller's anchors in the sorted order

  const Rows<T>& candidates() const { return ref ? *ref : emb; }
  bool finite() const { return emb.finite() && (!ref || ref->finite()); }
  // Slots of the caller's anchor a: [begin, end).
  int64_t slots_begin(int64_t a) const { return selection.offset[position[a]]; }
  int64_t slots_end(int64_t a) const {
    return selection.offset[position[a]] + selection.count[position[a]];
  }
  // The caller's row of a candidate position.
  int32_t row_of(int32_t candidate) const { return set.candidates().order()[candidate]; }
};

}  // namespace facenet::cpu
