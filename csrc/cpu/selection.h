// Selecting triplets: which positives and which negative each anchor is paired with.
#pragma once

#include "common/triplet_rule.h"
#include "cpu/buffer.h"
#include "cpu/rows.h"

namespace facenet::cpu {

// Slots of anchors in label-sorted order; slot k of anchor i is offset[i] + k, k < count[i].
// Positions are sorted ones, of the candidates.
template <class T>
struct PositiveSlots {
  Buffer<int64_t> offset;    // [M + 1]; padded, see kernels.h
  Buffer<int32_t> count;     // [M]
  Buffer<int32_t> positive;  // [slots] in the caller's order within an anchor
  Buffer<T> d_ap;            // [slots]

  explicit PositiveSlots(int64_t anchors) : offset(anchors + 1), count(anchors) {}
};

// rank[k] becomes the position of value k in ascending order. Equal values keep their order.
template <class T>
void rank_values(const T* values, int64_t count, int32_t* rank);

// The triplets of a batch by a rule.
template <class T>
struct Selection : PositiveSlots<T> {
  Selection(const PairSet<T>& set, const TripletRule& rule);

  Buffer<int32_t> negative;  // [slots], -1: none qualifies and the pair is left out
  Buffer<T> d_an;            // [slots]

  // Calls f(slot) for each triplet of the anchor at sorted position i.
  template <class F>
  void for_each_triplet(int64_t i, F&& f) const {
    for (int64_t slot = this->offset[i]; slot < this->offset[i] + this->count[i]; ++slot) {
      if (negative[slot] >= 0) f(slot);
    }
  }
};

// Finds all positives of every anchor that has a negative. Each such anchor gets `spare` more
// slots.
template <class T>
void find_all_positives(const PairSet<T>& set, int64_t spare, PositiveSlots<T>& s);

}  // namespace facenet::cpu
