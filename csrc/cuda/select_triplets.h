// select_triplets, as its operator calls it: the selection, listed in the caller's rows and order.
#pragma once

#include "cuda/selection.h"

namespace facenet::cuda {

// How many triplets there are. first [M + 1]: those before each of the caller's anchors.
// Synchronises with the device.
template <class T>
int64_t count_triplets(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                       const SelectionArrays<T>& selection, int64_t* first);

// [T] each
template <class T>
struct TripletList {
  int64_t* anchor;
  int64_t* positive;
  int64_t* negative;
  T* d_ap;
  T* d_an;
};

template <class T>
void list_triplets(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                   const SelectionArrays<T>& selection, const int64_t* first,
                   const TripletList<T>& to);

}  // namespace facenet::cuda
