// triplet_losses and its backward, as their operators call them.
#pragma once

#include "cuda/edges.h"
#include "cuda/prepare.h"
#include "cuda/workspace.h"

namespace facenet::cuda {

// [T] each. Anchors are rows of the embeddings, positives and negatives rows of the candidates.
struct TripletRows {
  const int64_t* anchor;
  const int64_t* positive;
  const int64_t* negative;
  int64_t count;
};

template <class T>
struct Sides {
  Rows<T> anchors;
  Rows<T> candidates;
  const RowFlags* flags;

  __device__ T poison() const { return flags->not_finite != 0 ? T(NAN) : T(0); }
};

// losses [T]
template <class T>
void find_losses_of_triplets(const Device& device, const Sides<T>& sides, const TripletRows& rows,
                             double margin, bool smooth, bool swap, T* losses);

// The edges of the triplets, four each, or six with swap.
template <class T>
struct TripletEdges {
  uint32_t* row;  // that the edge pushes,
  Edge<T>* edge;  // and the edge
  T* scale;       // of the gradient: 1, or NaN if the triplets or the rows are not fit
};

// grad [T] of the losses. Sets flags->not_finite for a triplet that is out of range.
template <class T>
void find_edges_of_triplets(const Device& device, const Sides<T>& sides, const TripletRows& rows,
                            double margin, bool smooth, bool swap, const T* grad, RowFlags* flags,
                            const TripletEdges<T>& to);

}  // namespace facenet::cuda
