// Everything that the operators over a labelled batch have in common: arguments, rows, classes, and
// for those that select triplets the selection.
#pragma once

#include <optional>

#include "common/mining_arguments.h"
#include "cuda/labels.h"
#include "cuda/prepare.h"
#include "cuda/selection.h"

namespace facenet::cuda {

// One tensor's rows and what was found out about them.
template <class T>
struct SideArrays {
  int64_t count = 0;
  bool cosine = false;
  bool by_products = false;
  LabelOrder order;
  T* inverse_norms = nullptr;  // [count] where cosine
  T* terms = nullptr;          // [count] where by products

  void place(Workspace& w);
};

// What the kernels find out, zero at first.
struct Found {
  RowFlags flags;
  ClassSizes sizes;
};

template <class T>
struct MiningArrays {
  SideArrays<T> anchors;
  SideArrays<T> candidates;  // in reference mode
  bool reference = false;
  ClassRanges classes;         // of the anchors among the candidates
  ClassRanges anchor_classes;  // of the candidates among the anchors, in reference mode
  SlotTable slots;
  Found* found = nullptr;
  float* partial = nullptr;  // of look_for_offset
  int64_t partials = 0;

  void place(Workspace& w);
};

template <class T>
class LabelledBatch {
 public:
  // Waits for the device once, to learn the number of slots, unless max_per_class bounds it.
  // `products`: its pairs may be searched by products.
  LabelledBatch(const MiningArguments& arguments, bool products);

  const Device device;

 protected:
  const Tensor emb_, labels_;
  const std::optional<Tensor> ref_emb_, ref_labels_, anchor_ids_, ref_ids_;
  const Scratch<MiningArrays<T>> arrays_;

 public:
  Pairs<T> pairs;
  int64_t slot_count = 0;
  int64_t largest_class = 0;  // no class has more candidates

  Slots slots() const { return arrays_.slots.view(); }
  const RowFlags* flags() const { return &arrays_.found->flags; }
  const ClassSizes* class_sizes() const { return &arrays_.found->sizes; }
  // Of the candidates among the anchors: the same as the other way round in self mode.
  const ClassRanges& anchor_classes() const {
    return arrays_.reference ? arrays_.anchor_classes : arrays_.classes;
  }

 private:
  static MiningArrays<T> sizes_of(const MiningArguments& arguments, const Device& device,
                                  const Tensor& emb, const std::optional<Tensor>& ref_emb,
                                  bool products);
};

template <class T>
class Mining : public LabelledBatch<T> {
 public:
  Mining(const MiningArguments& arguments, const SelectionRule& rule);

  const SelectionArrays<T>& selection() const { return *selection_; }
  // Gives its memory back to torch; kernels that are under way still have it.
  void release_selection() { selection_.reset(); }

 private:
  std::optional<Scratch<SelectionArrays<T>>> selection_;
};

}  // namespace facenet::cuda
