// What a call computes of its rows before it looks at any pair.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"
#include "cuda/labels.h"
#include "cuda/panels.h"

namespace facenet::cuda {

// On the device, zero at first.
struct RowFlags {
  int32_t not_finite;       // 1: some embedding is infinite or NaN
  int32_t unfit;            // 1: some square is too large or too small for products
  uint32_t largest_square;  // of a row, as bits
  int32_t needs_direct;  // 1: products would lose too many digits, so the search uses differences
  int32_t blocks_done;
};

// Looks at every row: flags->not_finite; `inverse_norms` [count] by the caller's row (null unless
// cosine); `packed` for products (null: not wanted).
template <class T>
void prepare_rows(const Device& device, const Rows<T>& rows, T* inverse_norms,
                  const PackedRows& packed, RowFlags* flags);

// One side of a batch of few rows, and what prepare_by_counting writes of it.
template <class T>
struct CountedSide {
  Rows<T> rows;
  const int64_t* labels;  // by the caller's row
  int32_t* order;
  ClassRanges classes;  // among the other side
  T* inverse_norms;
  PackedRows packed;
  float* interleaved;  // of few pairs: see interleaved.h; null: not wanted
  int32_t* unfit;      // by sorted position; null: the flags and sizes are told
};

// In one kernel what sort_by_label, make_slots (without `slots` find_classes) and prepare_rows do.
// `candidates` null: the anchors are the candidates. There is at least one anchor. Takes time that
// grows with the square of the rows.
template <class T>
void prepare_by_counting(const Device& device, const CountedSide<T>& anchors,
                         const CountedSide<T>* candidates, bool slots, int64_t bound,
                         const SlotTable& table, RowFlags* flags);

// Whether the pairs are so few that search_small should serve them, and products should not.
template <class T>
bool is_small(const Device& device, const Rows<T>& anchors, const Rows<T>& candidates) {
  const double work = double(anchors.count) * double(candidates.count) * double(anchors.dim);
  return work <= device.limits().small_work;
}

// Whether MmaLoop can and should serve these rows on this device: not those of a small search.
template <class T>
bool wants_products(const Device& device, const Rows<T>& anchors, const Rows<T>& candidates);

// Decides flags->needs_direct from a sample of the rows. `partial` [2 * centre_blocks(dim)].
int64_t centre_blocks(int64_t dim);
void look_for_offset(const Device& device, const Rows<float>& rows, float* partial,
                     RowFlags* flags);

}  // namespace facenet::cuda
