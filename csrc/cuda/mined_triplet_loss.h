// mined_triplet_loss, as its operator calls it.
#pragma once

#include "cuda/edges.h"
#include "cuda/loss_sums.h"
#include "cuda/selection.h"

namespace facenet::cuda {

// What the gradient is made of: see SlotEdges of edges.h.
template <class T>
struct EdgeArrays {
  T* positive;        // [slots] the weight of the edge to the positive
  uint32_t* row;      // [slots + M] the row that an edge pushes besides its anchor,
  Edge<T>* incoming;  // [slots + M] and that edge
  PushBits pushes;
};

// The losses of anchors, and with `gradient` their edges. slopes [slots]: scratch memory for that.
template <class T>
void find_anchor_losses(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                        const SelectionArrays<T>& selection, double margin, bool smooth,
                        bool gradient, const LossSums<T, int32_t>& sums, T* slopes,
                        const EdgeArrays<T>& to);

}  // namespace facenet::cuda
