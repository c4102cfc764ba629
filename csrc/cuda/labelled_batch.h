// The rows and labels of a call, made ready for the kernels: sorted by label, with each anchor's
// class among the candidates, its slots, and what was found out about the rows.
#pragma once

#include <algorithm>
#include <memory>

#include "cuda/kernel_arguments.h"
#include "cuda/labels.h"
#include "cuda/prepare.h"
#include "cuda/workspace.h"

namespace facenet {
struct BatchArguments;
}

namespace facenet::cuda {

// The rows of one tensor: their order by label, and what prepare_rows computes of them.
template <class T>
struct SideArrays {
  int64_t count = 0;
  bool cosine = false;
  bool by_products = false;
  LabelOrder order;
  T* inverse_norms = nullptr;  // [count] where cosine
  int64_t panel_bytes = 0;
  PackedRows packed{};  // where by products

  void place(Workspace& w);
};

// What select_small reads: the rows of both sides, see interleaved.h. Null where the search is not
// small.
struct InterleavedRows {
  int64_t anchor_floats = 0, candidate_floats = 0;
  bool has_bank = false;
  int64_t unfit_rows = 0;
  float *anchors = nullptr, *candidates = nullptr;
  // [unfit_rows] 1: the row is not finite, or its class is larger than max_per_class. The anchors
  // and then those of a bank. count_rows writes them and clears the report, which select_small may
  // tell then: a clear of its own would take as long as a kernel. Null without max_per_class.
  int32_t* unfit = nullptr;

  void place(Workspace& w);
};

// What the kernels report of a batch, zero at first.
struct BatchReport {
  RowFlags flags;
  ClassSizes sizes;
};

template <class T>
struct BatchArrays {
  SideArrays<T> anchors;
  SideArrays<T> candidates;  // in bank mode
  bool has_bank = false;
  ClassRanges classes;         // of the anchors among the candidates
  ClassRanges anchor_classes;  // of the candidates among the anchors, in bank mode
  SlotTable slots;
  BatchReport* report = nullptr;
  float* partial = nullptr;  // of look_for_offset
  int64_t partials = 0;

  void place(Workspace& w);
};

template <class T>
class LabelledBatch {
 public:
  // Synchronises with the device once, to read the number of slots, unless max_per_class bounds it.
  // `products`: its pairs may be searched by products. Without `slots` there are none, and the host
  // does not synchronise.
  LabelledBatch(const BatchArguments& arguments, bool products, bool slots = true);
  ~LabelledBatch();

  const Device device;

 private:
  struct Tensors;
  const std::unique_ptr<const Tensors> tensors_;
  const Scratch<BatchArrays<T>> arrays_;
  std::unique_ptr<const Scratch<InterleavedRows>> interleaved_;

 public:
  Pairs<T> pairs;
  int64_t slot_count = 0;
  int64_t largest_class = 0;  // no class has more candidates

  // So few that work which grows with the square of the rows takes less time than more kernels.
  bool few_rows() const {
    return std::max(pairs.anchors.count, pairs.candidates.count) <= device.limits().counted_rows;
  }
  Slots slots() const { return arrays_.slots.view(); }
  RowFlags* flags() const { return &arrays_.report->flags; }
  const ClassSizes* class_sizes() const { return &arrays_.report->sizes; }
  const BatchArrays<T>& arrays() const { return arrays_; }
  InterleavedRows interleaved() const {
    if (interleaved_ == nullptr) return {};
    return *interleaved_;
  }
  // After the search, so that the gradient may have their memory.
  void drop_interleaved() { interleaved_.reset(); }
  const SideArrays<T>& candidate_side() const {
    return arrays_.has_bank ? arrays_.candidates : arrays_.anchors;
  }
  // Of the candidates among the anchors: the same as the other way round in self mode.
  const ClassRanges& anchor_classes() const {
    return arrays_.has_bank ? arrays_.anchor_classes : arrays_.classes;
  }

 private:
  BatchArrays<T> sizes_of(Distance distance, bool products) const;
  void interleave(int64_t bound);
};

}  // namespace facenet::cuda
