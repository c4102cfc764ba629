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
  T* weight;          // [slots + M] its weight: where there is a table,
  Edge<T>* incoming;  // [slots + M] or the edge as that row has it
  PushTable<T> pushes;
};

// What the losses of anchors are made by, and what is written of them.
template <class T>
struct AnchorLosses {
  T margin;
  bool smooth;
  bool gradient;  // edges are wanted
  bool repeats;   // slots of an anchor may have the same negative, and an edge to it each
  LossSums<T, int32_t> sums;
  EdgeArrays<T> edges;
};

// Anchors of a block of anchor_losses, and so of a group of their PushTable.
constexpr int kAnchorsOfLosses = 16;

// slopes [slots]: scratch memory, for edges.
template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, const AnchorLosses<T>& to, T* slopes);

}  // namespace facenet::cuda
