// The selection of a small batch, as operators see it: search_small.cu has the kernel.
#pragma once

#include "cuda/mined_triplet_loss.h"
#include "cuda/small_blocks.h"

namespace facenet::cuda {

// What select_small searches. Rows in shape of interleaved.h; null: there are none, for the batch
// is too large.
struct SmallSearch {
  Pairs<float> pairs;
  Slots slots;
  const float *anchors, *candidates;
  int64_t most_slots;    // no anchor has more
  const int32_t* unfit;  // see InterleavedRows; null: the flags have been told

  SmallSizes sizes() const {
    return {pairs.anchors.count, pairs.candidates.count, pairs.anchors.dim, most_slots};
  }
};

// With these, select_small ends with what find_anchor_losses and reduce do.
template <class T>
struct SmallLosses : AnchorLosses<T> {
  bool wanted;
  RowFlags* flags;  // whose blocks_done is 0 at first
  LossReduction<T> reduction;
};

// Searches by differences. Fills `to`, or where losses are wanted these alone.
void search_small(const Device& device, const SmallSearch& search, const TripletRule& rule,
                  const SelectionArrays<float>& to, const SmallLosses<float>& losses);

}  // namespace facenet::cuda
