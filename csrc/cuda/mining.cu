#include <algorithm>
#include <limits>

#include "cuda/launch.h"
#include "cuda/mining.h"

namespace facenet::cuda {
namespace {

Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

std::optional<Tensor> packed(const std::optional<Tensor>& t) {
  std::optional<Tensor> result;
  if (t) result = packed(*t);
  return result;
}

const int64_t* indices(const std::optional<Tensor>& t) {
  return t ? static_cast<const int64_t*>(t->data_ptr()) : nullptr;
}

template <class T>
Rows<T> rows_of_side(const Tensor& emb, const SideArrays<T>& side, Distance distance) {
  Rows<T> rows = rows_of<T>(emb, distance);
  rows.order = side.order.order;
  rows.inverse_norms = side.inverse_norms;
  return rows;
}

}  // namespace

template <class T>
void SideArrays<T>::place(Workspace& w) {
  order.count = count;
  order.place(w);
  inverse_norms = cosine ? w.take<T>(count) : nullptr;
  terms = by_products ? w.take<T>(count) : nullptr;
}

template <class T>
void MiningArrays<T>::place(Workspace& w) {
  anchors.place(w);
  classes.place(w);
  if (reference) {
    candidates.place(w);
    anchor_classes.place(w);
  }
  slots.place(w);
  found = w.take<Found>(1);
  slots.sizes = found == nullptr ? nullptr : &found->sizes;
  partial = w.take<float>(partials);
}

template <class T>
MiningArrays<T> LabelledBatch<T>::sizes_of(const MiningArguments& arguments, const Device& device,
                                           const Tensor& emb, const std::optional<Tensor>& ref_emb,
                                           bool products) {
  const Distance distance = arguments.distance;
  const Tensor& candidates = ref_emb ? *ref_emb : emb;
  products = products &&
             wants_products(device, rows_of<T>(emb, distance), rows_of<T>(candidates, distance));
  MiningArrays<T> sizes;
  sizes.anchors.count = emb.size(0);
  sizes.anchors.cosine = distance == Distance::kCosine;
  sizes.anchors.by_products = products;
  sizes.reference = ref_emb.has_value();
  sizes.candidates = sizes.anchors;
  sizes.candidates.count = candidates.size(0);
  sizes.classes.count = emb.size(0);
  sizes.anchor_classes.count = candidates.size(0);
  sizes.slots.anchors = emb.size(0);
  sizes.partials = products ? 2 * centre_blocks(emb.size(1)) : 0;
  return sizes;
}

template <class T>
LabelledBatch<T>::LabelledBatch(const MiningArguments& arguments, bool products)
    : device(arguments.emb),
      emb_(packed(arguments.emb)),
      labels_(packed(arguments.labels)),
      ref_emb_(packed(arguments.ref_emb)),
      ref_labels_(packed(arguments.ref_labels)),
      anchor_ids_(packed(arguments.anchor_ids)),
      ref_ids_(packed(arguments.ref_ids)),
      arrays_(emb_, sizes_of(arguments, device, emb_, ref_emb_, products)) {
  const Distance distance = arguments.distance;
  const bool self = !arrays_.reference;
  const SideArrays<T>& anchor_side = arrays_.anchors;
  const SideArrays<T>& candidate_side = self ? arrays_.anchors : arrays_.candidates;
  const Tensor& candidates = self ? emb_ : *ref_emb_;
  RowFlags* const flags = &arrays_.found->flags;
  check_cuda(cudaMemsetAsync(arrays_.found, 0, sizeof(Found), device.stream()), "clearing flags");
  sort_by_label(device, labels_, anchor_side.order);
  if (!self) sort_by_label(device, *ref_labels_, candidate_side.order);
  pairs = {rows_of_side(emb_, anchor_side, distance),
           rows_of_side(candidates, candidate_side, distance),
           arrays_.classes.begin,
           arrays_.classes.end,
           indices(anchor_ids_),
           indices(ref_ids_),
           self};
  prepare_rows(device, pairs.anchors, anchor_side.inverse_norms, anchor_side.terms, flags);
  if (!self) {
    prepare_rows(device, pairs.candidates, candidate_side.inverse_norms, candidate_side.terms,
                 flags);
  }
  if (!self) find_classes(device, candidate_side.order, anchor_side.order, arrays_.anchor_classes);
  const int64_t bound = std::min(arguments.max_per_class, candidates.size(0));
  make_slots(device, emb_, anchor_side.order, candidate_side.order, self, bound, arrays_.classes,
             arrays_.slots);

  largest_class = bound;
  slot_count = bound * emb_.size(0);
  if (bound == 0) {
    const ClassSizes sizes = read_sizes(device, arrays_.slots);
    slot_count = sizes.slots;
    largest_class = sizes.largest;
  }
  FACENET_CHECK(slot_count < std::numeric_limits<int32_t>::max(), "labels: ", slot_count,
                " pairs of an anchor and a positive, more than 2^31; use smaller classes");
}

template <class T>
Mining<T>::Mining(const MiningArguments& arguments, const SelectionRule& rule)
    : LabelledBatch<T>(arguments, !is_random(rule.negatives)) {
  const MiningArrays<T>& arrays = this->arrays_;
  const Pairs<T>& pairs = this->pairs;
  RowFlags* const flags = &arrays.found->flags;
  SelectionArrays<T> sizes;
  sizes.anchors = pairs.anchors.count;
  sizes.slots = this->slot_count;
  sizes.random = is_random(rule.negatives);
  selection_.emplace(this->emb_, sizes);

  SearchPlan plan;
  plan.by_products = arrays.anchors.by_products;
  plan.flags = flags;
  if constexpr (sizeof(T) == 4) {
    plan.anchor_terms = arrays.anchors.terms;
    plan.candidate_terms = pairs.self ? arrays.anchors.terms : arrays.candidates.terms;
    if (plan.by_products) {
      // Matrix units cut a little off at each step, of which float32 takes three in one's place.
      const float steps = float(pairs.anchors.dim) / 32;
      const bool split = pairs.anchors.element == Element::kFloat;
      plan.rounding = (4 + (split ? 3 * steps : steps)) * std::numeric_limits<float>::epsilon();
      look_for_offset(this->device, pairs.candidates, arrays.partial, flags);
    }
  }
  const bool one = rule.positives != PositiveRule::kAll;
  const int64_t most = one ? 1 : this->largest_class - int64_t(pairs.self);
  cuda::select_triplets(this->device, pairs, this->slots(), most, rule, plan, *selection_);
}

template struct SideArrays<float>;
template struct SideArrays<double>;
template struct MiningArrays<float>;
template struct MiningArrays<double>;
template class LabelledBatch<float>;
template class LabelledBatch<double>;
template class Mining<float>;
template class Mining<double>;

}  // namespace facenet::cuda
