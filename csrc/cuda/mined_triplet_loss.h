// mined_triplet_loss, as its operator calls it.
#pragma once

#include "cuda/edges.h"
#include "cuda/loss_sums.h"
#include "cuda/selection.h"

namespace facenet::cuda {

// What the gradient is made of: see SlotEdges of edges.h.
template <class T>
struct EdgeArrays {
  int64_t slots;
  T* positive;        // [slots] the weight of the edge to the positive
  uint32_t* row;      // [slots + M] the row that an edge pushes besides its anchor,
  Edge<T>* incoming;  // [slots + M] and that edge
  PushBits pushes;
};

// What the losses of anchors are made by, and what is written of them.
template <class T>
struct AnchorLosses {
  T margin;
  bool smooth;
  bool gradient;  // edges are wanted
  LossSums<T, int32_t> sums;
  EdgeArrays<T> edges;
};

// Anchors of a block of anchor_losses, and so of its PushBits.
constexpr int kAnchorsOfLosses = 16;

// slopes [slots]: scratch memory, for edges.
template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, const AnchorLosses<T>& to, T* slopes);

}  // namespace facenet::cuda
