// Which of two candidates wins. A candidate is a distance and an index in the caller's order;
// a negative index means "none yet", which every candidate beats. Ties go to the lowest index,
// so that merging is associative, commutative and idempotent: the order in which threads,
// tiles or chunks meet cannot show in a result. A NaN distance beats nothing.
#pragma once

#include "semantics/portable.h"

namespace facenet {

template <class T>
FACENET_HD bool closer(T d, int64_t index, T best_d, int64_t best_index) {
  return best_index < 0 ? d == d : (d < best_d || (d == best_d && index < best_index));
}

template <class T>
FACENET_HD bool farther(T d, int64_t index, T best_d, int64_t best_index) {
  return best_index < 0 ? d == d : (d > best_d || (d == best_d && index < best_index));
}

}  // namespace facenet
