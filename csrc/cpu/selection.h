// Selecting triplets: which positives and which negative each anchor is paired with.
#pragma once

#include "common/options.h"
#include "cpu/buffer.h"
#include "cpu/rows.h"

namespace facenet::cpu {

// Slots of anchors in label-sorted order; slot k of anchor i is offset[i] + k, k < count[i].
// Positions are sorted ones, of the candidates.
template <class T>
struct Selection {
  Buffer<int64_t> offset;    // [M + 1]; padded, see kernels.h
  Buffer<int32_t> count;     // [M]
  Buffer<int32_t> positive;  // [slots] in the caller's order within an anchor
  Buffer<int32_t> negative;  // [slots], -1: none qualifies and the pair is left out
  Buffer<T> d_ap, d_an;      // [slots]
};

template <class T>
Selection<T> select_triplets(const PairSet<T>& set, const SelectionRule& rule);

// Where each of the caller's rows stands in the sorted order: the inverse of rows.order().
template <class T>
Buffer<int32_t> positions_of_rows(const SortedRows<T>& rows);

}  // namespace facenet::cpu
