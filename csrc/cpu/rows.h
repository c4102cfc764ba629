// Embeddings as the kernels read them: in the arithmetic's type, sorted by label, in panels.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "common/checks.h"
#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace facenet::cpu {

// A matrix [count, dim] in the caller's order, as T. It borrows the tensor's memory if the values
// are used as they are. For the cosine its rows are normalised, and rows of zeros stay zeros.
template <class T>
class Rows {
 public:
  Rows(const Tensor& embeddings, Distance distance);

  int64_t count() const { return count_; }
  int64_t dim() const { return dim_; }
  const T* values() const { return values_; }
  const T* row(int64_t i) const { return values_ + i * dim_; }
  bool finite() const { return finite_; }
  // 1 / |x| of the given rows, 0 for a row of zeros. Cosine only.
  const T* inverse_norms() const { return inverse_norm_.data(); }
  bool has_zero_row() const { return has_zero_row_; }

  T distance_to(int64_t i, const Rows& other, int64_t j, Distance kind) const;

 private:
  int64_t count_, dim_;
  std::optional<Tensor> borrowed_;  // the caller's values, contiguous
  Buffer<T> owned_;                 // or converted or normalised ones
  const T* values_;                 // of either
  Buffer<T> inverse_norm_;
  bool finite_ = true;
  bool has_zero_row_ = false;
};

// A run of the caller's rows.
struct RowRun {
  int64_t begin = 0, count = 0;
};

// Rows in panels. They are sorted by label (stably), or, without labels, in the caller's order. The
// rows of `first` come before the others.
template <class T>
class SortedRows {
 public:
  SortedRows(const Rows<T>& rows, const int64_t* labels, const int64_t* ids, RowRun first = {});

  int64_t count() const { return int64_t(order_.size()); }
  const Buffer<int32_t>& order() const { return order_; }    // sorted position -> caller's row
  const Buffer<int64_t>& labels() const { return labels_; }  // sorted
  const int64_t* ids() const { return ids_.size() ? ids_.data() : nullptr; }
  Panels<T> panels() const { return panels_; }

 private:
  Buffer<int32_t> order_;
  Buffer<int64_t> labels_, ids_;
  Buffer<uint8_t> zero_row_;
  Buffer<T> data_;
  Panels<T> panels_;
};

// All pairs of anchors and candidates, with the class of each anchor among the candidates.
// Without a bank the candidates are the anchors (self mode).
//
// A bank may hold the anchors themselves: in one run, with their ids, in their order. Where no
// other row of the bank has their labels, the run comes first among the candidates. Then the
// candidates begin with the anchors, and a distance of two anchors is computed once for both, as in
// self mode. Batches that processes share are of this kind, if each label is on one process.
template <class T>
class PairSet {
 public:
  struct Side {
    const Rows<T>& rows;
    const int64_t* labels;  // [rows], null: every pair counts, no classes
    const int64_t* ids;     // [rows] or null
  };
  PairSet(Side anchors, std::optional<Side> bank, Distance distance);

  const SortedRows<T>& anchors() const { return anchors_; }
  const SortedRows<T>& candidates() const { return bank_ ? *bank_ : anchors_; }
  bool self() const { return !bank_; }
  const Pairs<T>& pairs() const { return pairs_; }

 private:
  SortedRows<T> anchors_;
  std::optional<SortedRows<T>> bank_;
  Buffer<int32_t> class_begin_, class_end_;
  Pairs<T> pairs_;
};
}  // namespace facenet::cpu
