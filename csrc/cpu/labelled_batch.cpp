#include "cpu/labelled_batch.h"

#include <torch/csrc/stable/ops.h>

#include <cstring>

namespace facenet::cpu {
namespace {

Buffer<int64_t> read_indices(const std::optional<Tensor>& t) {
  if (!t) return {};
  const Tensor contiguous = t->is_contiguous() ? *t : torch::stable::contiguous(*t);
  Buffer<int64_t> values(t->numel());
  if (t->numel() > 0) {
    std::memcpy(values.data(), contiguous.data_ptr(), size_t(t->numel()) * sizeof(int64_t));
  }
  return values;
}

template <class T>
PairSet<T> make_pairs(const Rows<T>& emb, const std::optional<Rows<T>>& ref,
                      const Buffer<int64_t>& labels, const Buffer<int64_t>& ref_labels,
                      const Buffer<int64_t>& anchor_ids, const Buffer<int64_t>& ref_ids,
                      Distance distance) {
  using Side = typename PairSet<T>::Side;
  std::optional<Side> bank;
  if (ref) bank.emplace(Side{*ref, ref_labels.data(), ref_ids.data()});
  return PairSet<T>({emb, labels.data(), anchor_ids.data()}, bank, distance);
}

template <class T>
std::optional<Rows<T>> load_bank(const std::optional<Tensor>& ref, Distance distance) {
  std::optional<Rows<T>> rows;
  if (ref) rows.emplace(*ref, distance);
  return rows;
}

// Where each of the caller's rows stands in the sorted order: the inverse of rows.order().
template <class T>
Buffer<int32_t> positions_of_rows(const SortedRows<T>& rows) {
  Buffer<int32_t> position(rows.count());
  for (int64_t i = 0; i < rows.count(); ++i) position[rows.order()[i]] = int32_t(i);
  return position;
}

// The CUDA kernels return NaN instead: they do not synchronise, so they cannot raise an error.
template <class T>
void check_class_sizes(const PairSet<T>& set, int64_t max_per_class) {
  const Pairs<T>& pairs = set.pairs();
  for (int64_t i = 0; max_per_class > 0 && i < set.anchors().count(); ++i) {
    const int64_t size = pairs.class_end[i] - pairs.class_begin[i];
    FACENET_CHECK(size <= max_per_class, "max_per_class: expected classes of at most ",
                  max_per_class, " rows, got one of ", size);
  }
}

}  // namespace

template <class T>
LabelledBatch<T>::LabelledBatch(const BatchArguments& arguments)
    : emb(arguments.emb, arguments.distance),
      ref(load_bank<T>(arguments.ref_emb, arguments.distance)),
      labels_(read_indices(arguments.labels)),
      ref_labels_(read_indices(arguments.ref_labels)),
      anchor_ids_(read_indices(arguments.anchor_ids)),
      ref_ids_(read_indices(arguments.ref_ids)),
      set(make_pairs(emb, ref, labels_, ref_labels_, anchor_ids_, ref_ids_, arguments.distance)),
      position(positions_of_rows(set.anchors())) {
  check_class_sizes(set, arguments.max_per_class);
}

template class LabelledBatch<float>;
template class LabelledBatch<double>;

}  // namespace facenet::cpu
