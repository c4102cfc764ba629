// The selection of a small batch, as operators see it: search_small.cu has the kernel.
#pragma once

#include "cuda/mined_triplet_loss.h"

namespace facenet::cuda {

// What select_small searches. Rows in shape of interleaved.h; null: there are none, for the batch
// is too large.
struct SmallSearch {
  Pairs<float> pairs;
  Slots slots;
  const float *anchors, *candidates;
  int64_t most_slots;  // no anchor has more
};

// With these, select_small ends with what find_anchor_losses and reduce do.
template <class T>
struct SmallLosses : AnchorLosses<T> {
  bool wanted;
  int32_t* blocks_done;  // 0 at first
  LossReduction<T> reduction;
};

// How many anchors a block has, which is the `anchors` of their PushBits; 0: select_small suits
// only fewer pairs or fewer slots.
int anchors_of_small_blocks(const Device& device, const SmallSearch& search);

// Searches by differences. Fills `to`, or where losses are wanted these alone.
void search_small(const Device& device, const SmallSearch& search, const TripletRule& rule,
                  const SelectionArrays<float>& to, const SmallLosses<float>& losses);

}  // namespace facenet::cuda
