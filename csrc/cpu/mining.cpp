#include "cpu/mining.h"

#include <torch/csrc/stable/ops.h>

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
  std::optional<Side> reference;
  if (ref) reference.emplace(Side{*ref, ref_labels.data(), ref_ids.data()});
  return PairSet<T>({emb, labels.data(), anchor_ids.data()}, reference, distance);
}

template <class T>
std::optional<Rows<T>> load_reference(const std::optional<Tensor>& ref, Distance distance) {
  std::optional<Rows<T>> rows;
  if (ref) rows.emplace(*ref, distance);
  return rows;
}

}  // namespace

void MiningArguments::check() const {
  check_embeddings("emb", emb);
  check_index_vector("labels", labels, emb.size(0));
  FACENET_CHECK(ref_emb.has_value() == ref_labels.has_value(),
                "ref_emb and ref_labels: expected both or neither");
  FACENET_CHECK(anchor_ids.has_value() == ref_ids.has_value(),
                "anchor_ids and ref_ids: expected both or neither");
  FACENET_CHECK(!anchor_ids || ref_emb, "anchor_ids: expected ref_emb with it, got none");
  if (ref_emb) {
    check_embeddings("ref_emb", *ref_emb);
    check_same_space("emb", emb, "ref_emb", *ref_emb);
    check_index_vector("ref_labels", *ref_labels, ref_emb->size(0));
  }
  if (anchor_ids) {
    check_index_vector("anchor_ids", *anchor_ids, emb.size(0));
    check_index_vector("ref_ids", *ref_ids, ref_emb->size(0));
  }
}

template <class T>
Mining<T>::Mining(const MiningArguments& arguments, const SelectionRule& rule)
    : emb(arguments.emb, arguments.distance),
      ref(load_reference<T>(arguments.ref_emb, arguments.distance)),
      labels_(read_indices(arguments.labels)),
      ref_labels_(read_indices(arguments.ref_labels)),
      anchor_ids_(read_indices(arguments.anchor_ids)),
      ref_ids_(read_indices(arguments.ref_ids)),
      set(make_pairs(emb, ref, labels_, ref_labels_, anchor_ids_, ref_ids_, arguments.distance)),
      selection(select_triplets(set, rule)),
      position(positions_of_rows(set.anchors())) {}

template class Mining<float>;
template class Mining<double>;

}  // namespace facenet::cpu
