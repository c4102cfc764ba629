// The k closest candidates of an anchor, as a list in ascending order: order.h decides.
//
// Places that no candidate has taken yet have infinity and -1. What a list holds does not depend
// on the order in which candidates were offered.
#pragma once

#include "semantics/order.h"

namespace facenet {

// Index is the candidate's in the caller's order.
template <class T, class Index>
FACENET_HD void offer_nearest(T d, Index index, int32_t k, T* distances, Index* indices) {
  int32_t place = k;
  while (place > 0 && closer(d, index, distances[place - 1], indices[place - 1])) --place;
  if (place == k) return;
  for (int32_t at = k - 1; at > place; --at) {
    distances[at] = distances[at - 1];
    indices[at] = indices[at - 1];
  }
  distances[place] = d;
  indices[place] = index;
}

}  // namespace facenet
