#include <algorithm>
#include <limits>

#include "cuda/labelled_batch.h"
#include "cuda/launch.h"

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
void BatchArrays<T>::place(Workspace& w) {
  anchors.place(w);
  classes.place(w);
  if (has_bank) {
    candidates.place(w);
    anchor_classes.place(w);
  }
  slots.place(w);
  report = w.take<BatchReport>(1);
  slots.sizes = report == nullptr ? nullptr : &report->sizes;
  partial = w.take<float>(partials);
}

template <class T>
BatchArrays<T> LabelledBatch<T>::sizes_of(const BatchArguments& arguments, const Device& device,
                                          const Tensor& emb, const std::optional<Tensor>& ref_emb,
                                          bool products) {
  const Distance distance = arguments.distance;
  const Tensor& candidates = ref_emb ? *ref_emb : emb;
  products = products &&
             wants_products(device, rows_of<T>(emb, distance), rows_of<T>(candidates, distance));
  BatchArrays<T> sizes;
  sizes.anchors.count = emb.size(0);
  sizes.anchors.cosine = distance == Distance::kCosine;
  sizes.anchors.by_products = products;
  sizes.has_bank = ref_emb.has_value();
  sizes.candidates = sizes.anchors;
  sizes.candidates.count = candidates.size(0);
  sizes.classes.count = emb.size(0);
  sizes.anchor_classes.count = candidates.size(0);
  sizes.slots.anchors = emb.size(0);
  sizes.partials = products ? 2 * centre_blocks(emb.size(1)) : 0;
  return sizes;
}

template <class T>
LabelledBatch<T>::LabelledBatch(const BatchArguments& arguments, bool products, bool slots)
    : device(arguments.emb),
      emb_(packed(arguments.emb)),
      labels_(packed(arguments.labels)),
      ref_emb_(packed(arguments.ref_emb)),
      ref_labels_(packed(arguments.ref_labels)),
      anchor_ids_(packed(arguments.anchor_ids)),
      ref_ids_(packed(arguments.ref_ids)),
      arrays_(emb_, sizes_of(arguments, device, emb_, ref_emb_, products)) {
  const Distance distance = arguments.distance;
  const bool self = !arrays_.has_bank;
  const SideArrays<T>& anchor_side = arrays_.anchors;
  const SideArrays<T>& candidate_side = this->candidate_side();
  const Tensor& candidates = self ? emb_ : *ref_emb_;
  check_cuda(cudaMemsetAsync(arrays_.report, 0, sizeof(BatchReport), device.stream()),
             "clearing flags");
  sort_by_label(device, labels_, anchor_side.order);
  if (!self) sort_by_label(device, *ref_labels_, candidate_side.order);
  pairs = {rows_of_side(emb_, anchor_side, distance),
           rows_of_side(candidates, candidate_side, distance),
           arrays_.classes.begin,
           arrays_.classes.end,
           indices(anchor_ids_),
           indices(ref_ids_),
           self};
  prepare_rows(device, pairs.anchors, anchor_side.inverse_norms, anchor_side.terms, flags());
  if (!self) {
    prepare_rows(device, pairs.candidates, candidate_side.inverse_norms, candidate_side.terms,
                 flags());
  }
  if (!self) find_classes(device, candidate_side.order, anchor_side.order, arrays_.anchor_classes);
  if (!slots) {
    find_classes(device, anchor_side.order, candidate_side.order, arrays_.classes);
    return;
  }
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

template struct SideArrays<float>;
template struct SideArrays<double>;
template struct BatchArrays<float>;
template struct BatchArrays<double>;
template class LabelledBatch<float>;
template class LabelledBatch<double>;

}  // namespace facenet::cuda
