#include "cpu/rows.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/parallel.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kRowGrain = 256;

template <class From, class T>
void convert(const Tensor& from, int64_t count, int64_t dim, T* to) {
  const From* source = static_cast<const From*>(from.data_ptr());
  parallel_rows(count, kRowGrain, double(count * dim), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin * dim; k < end * dim; ++k) to[k] = static_cast<T>(source[k]);
  });
}

// The positions of `labels` in ascending order, stable.
void sort_positions(const int64_t* labels, int64_t count, int32_t* order) {
  if (count == 0) return;
  const auto [low, high] = std::minmax_element(labels, labels + count);
  const int64_t smallest = *low;
  const uint64_t range = uint64_t(*high) - uint64_t(smallest);
  if (range <= uint64_t(4 * count + 1024)) {
    std::vector<int32_t> size(range + 1, 0), next(range + 1);  // of each label
    for (int64_t i = 0; i < count; ++i) ++size[labels[i] - smallest];
    std::exclusive_scan(size.begin(), size.end(), next.begin(), 0);
    for (int64_t i = 0; i < count; ++i) order[next[labels[i] - smallest]++] = int32_t(i);
    return;
  }
  std::iota(order, order + count, 0);
  std::sort(order, order + count, [&](int32_t a, int32_t b) {
    return labels[a] < labels[b] || (labels[a] == labels[b] && a < b);
  });
}

// See PairSet. Nothing where the bank has no such run.
template <class T>
RowRun anchors_in_bank(const typename PairSet<T>::Side& anchors,
                       const typename PairSet<T>::Side& bank,
                       const Buffer<int64_t>& sorted_labels) {
  const int64_t count = anchors.rows.count(), all = bank.rows.count();
  if (anchors.ids == nullptr || bank.ids == nullptr || count == 0 || count > all) return {};
  const int64_t begin = std::find(bank.ids, bank.ids + all, anchors.ids[0]) - bank.ids;
  if (begin + count > all) return {};
  const auto same = [count](const auto* a, const auto* b, int64_t width) {
    return std::memcmp(a, b, size_t(count * width) * sizeof(*a)) == 0;
  };
  if (!same(anchors.ids, bank.ids + begin, 1) || !same(anchors.labels, bank.labels + begin, 1) ||
      !same(anchors.rows.values(), bank.rows.row(begin), anchors.rows.dim())) {
    return {};
  }
  for (int64_t j = 0; j < all; ++j) {
    const bool outside = j < begin || j >= begin + count;
    if (outside &&
        std::binary_search(sorted_labels.data(), sorted_labels.data() + count, bank.labels[j])) {
      return {};
    }
  }
  return {begin, count};
}

}  // namespace

template <class T>
Rows<T>::Rows(const Tensor& embeddings, Distance distance)
    : count_(embeddings.size(0)), dim_(embeddings.size(1)) {
  borrowed_ = embeddings.is_contiguous() ? embeddings : torch::stable::contiguous(embeddings);
  const ScalarType type = embeddings.scalar_type();
  if (type == ScalarType::Float || type == ScalarType::Double) {
    values_ = static_cast<const T*>(borrowed_->data_ptr());
  } else {
    owned_ = Buffer<T>(count_ * dim_);
    if (type == ScalarType::Half) {
      convert<torch::headeronly::Half>(*borrowed_, count_, dim_, owned_.data());
    } else {
      convert<torch::headeronly::BFloat16>(*borrowed_, count_, dim_, owned_.data());
    }
    values_ = owned_.data();
    borrowed_.reset();
  }

  std::atomic<bool> finite{true};
  parallel_rows(count_, kRowGrain, double(count_ * dim_) / 16, [&](int64_t begin, int64_t end) {
    if (!kernels<T>().all_finite(row(begin), (end - begin) * dim_)) finite = false;
  });
  finite_ = finite;
  if (distance != Distance::kCosine) return;

  Buffer<T> normalised(count_ * dim_);
  inverse_norm_ = Buffer<T>(count_);
  std::atomic<bool> zero{false};
  parallel_rows(count_, kRowGrain, double(count_ * dim_), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Scaled by the largest entry, so that squares neither overflow nor vanish.
      T largest = 0;
      for (int64_t k = 0; k < dim_; ++k) largest = std::max(largest, std::abs(row(i)[k]));
      double squares = 0;
      for (int64_t k = 0; k < dim_ && largest > 0; ++k) {
        const double x = double(row(i)[k]) / double(largest);
        squares += x * x;
      }
      const double norm = std::sqrt(squares) * double(largest);
      const bool is_zero = largest == T(0);
      if (is_zero) zero = true;
      inverse_norm_[i] = is_zero ? T(0) : T(1.0 / norm);
      for (int64_t k = 0; k < dim_; ++k) {
        normalised[i * dim_ + k] = is_zero ? row(i)[k] : T(double(row(i)[k]) / norm);
      }
    }
  });
  has_zero_row_ = zero;
  owned_ = std::move(normalised);
  values_ = owned_.data();
  borrowed_.reset();
}

template <class T>
T Rows<T>::distance_to(int64_t i, const Rows& other, int64_t j, Distance kind) const {
  const T squares = kernels<T>().squared_distance(row(i), other.row(j), dim_);
  if (kind == Distance::kCosine && (inverse_norm_[i] == T(0) || other.inverse_norm_[j] == T(0))) {
    return T(1) + (squares - squares);
  }
  return distance_from_squares(kind, squares);
}

template <class T>
SortedRows<T>::SortedRows(const Rows<T>& rows, const int64_t* labels, const int64_t* ids,
                          RowRun first)
    : order_(rows.count()), data_(panel_count(rows.count()) * kPanel * rows.dim()) {
  const int64_t count = rows.count();
  if (labels != nullptr) {
    sort_positions(labels, count, order_.data());
    if (first.count > 0) {
      std::stable_partition(order_.begin(), order_.end(), [first](int32_t row) {
        return row >= first.begin && row < first.begin + first.count;
      });
    }
    labels_ = Buffer<int64_t>(count);
    for (int64_t i = 0; i < count; ++i) labels_[i] = labels[order_[i]];
  } else {
    std::iota(order_.begin(), order_.end(), 0);
  }
  if (ids != nullptr) {
    ids_ = Buffer<int64_t>(count);
    for (int64_t i = 0; i < count; ++i) ids_[i] = ids[order_[i]];
  }
  if (rows.has_zero_row()) {
    zero_row_ = Buffer<uint8_t>(count);
    for (int64_t i = 0; i < count; ++i) zero_row_[i] = rows.inverse_norms()[order_[i]] == T(0);
  }
  kernels<T>().pack(rows.values(), order_.data(), count, rows.dim(), data_.data());
  panels_ = {data_.data(), rows.has_zero_row() ? zero_row_.data() : nullptr, count, rows.dim()};
}

template <class T>
PairSet<T>::PairSet(Side anchors, std::optional<Side> bank, Distance distance)
    : anchors_(anchors.rows, anchors.labels, anchors.ids) {
  RowRun run;
  if (bank && bank->labels != nullptr) run = anchors_in_bank<T>(anchors, *bank, anchors_.labels());
  if (bank) bank_.emplace(bank->rows, bank->labels, bank->ids, run);
  const SortedRows<T>& c = candidates();
  if (anchors.labels != nullptr) {
    // Both sides are sorted, as far as the anchors' labels go: one walk finds every class.
    const int64_t count = anchors_.count();
    class_begin_ = Buffer<int32_t>(count);
    class_end_ = Buffer<int32_t>(count);
    int64_t begin = 0, end = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t label = anchors_.labels()[i];
      if (i == 0 || label != anchors_.labels()[i - 1]) {
        begin = end;
        while (begin < c.count() && c.labels()[begin] < label) ++begin;
        end = begin;
        while (end < c.count() && c.labels()[end] == label) ++end;
      }
      class_begin_[i] = int32_t(begin);
      class_end_[i] = int32_t(end);
    }
  }
  pairs_ = {
      anchors_.panels(),   c.panels(),        self(),           self() || run.count > 0, distance,
      class_begin_.data(), class_end_.data(), c.order().data(), anchors_.ids(),          c.ids()};
}

template class Rows<float>;
template class Rows<double>;
template class SortedRows<float>;
template class SortedRows<double>;
template class PairSet<float>;
template class PairSet<double>;

}  // namespace facenet::cpu
