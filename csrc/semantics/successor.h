// The successor of a threshold t among negatives: the closest one strictly farther than t.
//
// An anchor's P thresholds (its positive distances, ascending) cut the line into buckets: bucket
// k holds the distances in (t[k], t[k+1]], the last one everything above t[P-1]. Each bucket
// keeps its closest negative. After all negatives were seen, the successor of t[k] is the closest
// over the buckets k, k+1, ..., P-1.
#pragma once

#include "semantics/order.h"

namespace facenet {

// The bucket of d, or -1 where d is at or below every threshold: one less than the number of
// thresholds strictly below d.
template <class T>
FACENET_HD int64_t successor_bucket(const T* thresholds, int64_t count, T d) {
  int64_t below = 0;
  for (int64_t size = count; size > 0;) {
    const int64_t half = size / 2;
    const bool up = thresholds[below + half] < d;
    below = up ? below + half + 1 : below;
    size = up ? size - half - 1 : half;
  }
  return below - 1;
}

// Whether a selected negative lies inside the margin (the `within_margin` rule).
template <class T>
FACENET_HD bool inside_margin(T d_ap, T d_an, T margin) {
  return d_an < d_ap + margin;
}

}  // namespace facenet
