#include "cuda/labelled_batch.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "common/batch_arguments.h"
#include "cuda/interleaved.h"
#include "cuda/launch.h"
#include "cuda/panels.h"
#include "cuda/small_blocks.h"
#include "cuda/tensors.h"

namespace facenet::cuda {
namespace {

Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

std::optional<Tensor> packed(const std::optional<Tensor>& t) {
  std::optional<Tensor> result;
  if (t) result = packed(*t);
  return result;
}

const int64_t* indices(const std::optional<Tensor>& t) {
  return t ? data_of<const int64_t>(*t) : nullptr;
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
  if (!by_products) return;
  packed.terms = w.take<float>(padded_rows(count));
  packed.panels = w.take<unsigned char>(panel_bytes);
}

void InterleavedRows::place(Workspace& w) {
  anchors = w.take<float>(anchor_floats);
  candidates = has_bank ? w.take<float>(candidate_floats) : anchors;
  unfit = unfit_rows > 0 ? w.take<int32_t>(unfit_rows) : nullptr;
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

// Contiguous, for as long as the batch lasts.
template <class T>
struct LabelledBatch<T>::Tensors {
  explicit Tensors(const BatchArguments& of)
      : emb(packed(of.emb)),
        labels(packed(of.labels)),
        ref_emb(packed(of.ref_emb)),
        ref_labels(packed(of.ref_labels)),
        anchor_ids(packed(of.anchor_ids)),
        ref_ids(packed(of.ref_ids)) {}

  const Tensor& candidates() const { return ref_emb ? *ref_emb : emb; }

  const Tensor emb, labels;
  const std::optional<Tensor> ref_emb, ref_labels, anchor_ids, ref_ids;
};

template <class T>
BatchArrays<T> LabelledBatch<T>::sizes_of(Distance distance, bool products) const {
  const Tensor &emb = tensors_->emb, &candidates = tensors_->candidates();
  products = products &&
             wants_products(device, rows_of<T>(emb, distance), rows_of<T>(candidates, distance));
  BatchArrays<T> sizes;
  sizes.anchors.count = emb.size(0);
  sizes.anchors.cosine = distance == Distance::kCosine;
  sizes.anchors.by_products = products;
  const auto panel_bytes = [&](int64_t rows) {
    const int element_bytes = emb.scalar_type() == ScalarType::Float ? 4 : 2;
    return padded_rows(rows) * chunks_of(int32_t(emb.size(1)), element_bytes) * kChunkBytes;
  };
  sizes.anchors.panel_bytes = panel_bytes(emb.size(0));
  sizes.has_bank = tensors_->ref_emb.has_value();
  sizes.candidates = sizes.anchors;
  sizes.candidates.count = candidates.size(0);
  sizes.candidates.panel_bytes = panel_bytes(candidates.size(0));
  sizes.classes.count = emb.size(0);
  sizes.anchor_classes.count = candidates.size(0);
  sizes.slots.anchors = emb.size(0);
  sizes.partials = products ? 2 * centre_blocks(emb.size(1)) : 0;
  return sizes;
}

template <class T>
LabelledBatch<T>::~LabelledBatch() = default;

template <class T>
LabelledBatch<T>::LabelledBatch(const BatchArguments& arguments, bool products, bool slots)
    : device(arguments.emb),
      tensors_(new Tensors(arguments)),
      arrays_(device, sizes_of(arguments.distance, products)) {
  const Distance distance = arguments.distance;
  const bool self = !arrays_.has_bank;
  const SideArrays<T>& anchor_side = arrays_.anchors;
  const SideArrays<T>& candidate_side = this->candidate_side();
  const Tensor &emb = tensors_->emb, &candidates = tensors_->candidates();
  pairs = {rows_of_side(emb, anchor_side, distance),
           rows_of_side(candidates, candidate_side, distance),
           arrays_.classes.begin,
           arrays_.classes.end,
           indices(tensors_->anchor_ids),
           indices(tensors_->ref_ids),
           self};
  const int64_t bound = std::min(arguments.max_per_class, candidates.size(0));
  const bool few = emb.size(0) > 0 && few_rows();
  if (few && products && is_small(device, pairs.anchors, pairs.candidates)) interleave(bound);
  const InterleavedRows copies = interleaved();
  if (copies.unfit == nullptr) {
    check_cuda(cudaMemsetAsync(arrays_.report, 0, sizeof(BatchReport), device.stream()),
               "clearing flags");
  }
  if (few) {
    const auto counted = [&](const Rows<T>& rows, const std::optional<Tensor>& labels,
                             const SideArrays<T>& side, const ClassRanges& classes, float* copy,
                             int32_t* unfit) {
      return CountedSide<T>{
          rows, indices(labels), side.order.order, classes, side.inverse_norms, side.packed, copy,
          unfit};
    };
    int32_t* const unfit = copies.unfit;
    const CountedSide<T> anchor_rows = counted(pairs.anchors, tensors_->labels, anchor_side,
                                               arrays_.classes, copies.anchors, unfit);
    const CountedSide<T> candidate_rows =
        counted(pairs.candidates, tensors_->ref_labels, candidate_side, arrays_.anchor_classes,
                copies.candidates, unfit == nullptr ? nullptr : unfit + pairs.anchors.count);
    prepare_by_counting(device, anchor_rows, self ? nullptr : &candidate_rows, slots, bound,
                        arrays_.slots, flags());
  } else {
    sort_by_label(device, indices(tensors_->labels), anchor_side.order,
                  indices(tensors_->ref_labels), self ? nullptr : &candidate_side.order);
    prepare_rows(device, pairs.anchors, anchor_side.inverse_norms, anchor_side.packed, flags());
    if (!self) {
      prepare_rows(device, pairs.candidates, candidate_side.inverse_norms, candidate_side.packed,
                   flags());
      find_classes(device, candidate_side.order, anchor_side.order, arrays_.anchor_classes);
    }
    if (slots) {
      make_slots(device, anchor_side.order, candidate_side.order, self, bound, arrays_.classes,
                 arrays_.slots);
    } else {
      find_classes(device, anchor_side.order, candidate_side.order, arrays_.classes);
    }
  }
  if (!slots) return;

  largest_class = bound;
  slot_count = bound * emb.size(0);
  if (bound == 0) {
    const ClassSizes sizes = add_up_slots(device, arrays_.slots);
    slot_count = sizes.slots;
    largest_class = sizes.largest;
  }
  FACENET_CHECK(slot_count < std::numeric_limits<int32_t>::max(), "labels: ", slot_count,
                " pairs of an anchor and a positive, more than 2^31; use smaller classes");
}

// Makes room for the rows as select_small reads them, if it serves. `bound`: on the slots of an
// anchor; 0: not known yet.
template <class T>
void LabelledBatch<T>::interleave(int64_t bound) {
  const int64_t anchors = pairs.anchors.count, candidates = pairs.candidates.count;
  const int64_t columns = 4 * units_of(pairs.anchors.dim);
  if (sizeof(T) != 4 || columns == 0) return;
  const SmallSizes sizes{pairs.anchors.count, pairs.candidates.count, pairs.anchors.dim, bound};
  if (bound > 0 && anchors_of_small_blocks(device, sizes) == 0) return;
  InterleavedRows rows;
  rows.anchor_floats = interleaved_rows(anchors) * columns;
  rows.candidate_floats = interleaved_rows(candidates) * columns;
  rows.has_bank = !pairs.self;
  if (bound > 0) rows.unfit_rows = anchors + (pairs.self ? 0 : candidates);
  interleaved_.reset(new Scratch<InterleavedRows>(device, rows));
}

template struct SideArrays<float>;
template struct SideArrays<double>;
template struct BatchArrays<float>;
template struct BatchArrays<double>;
template class LabelledBatch<float>;
template class LabelledBatch<double>;

}  // namespace facenet::cuda
