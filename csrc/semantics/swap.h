// Anchor swap (Balntas et al. 2016): the negative of a triplet counts at the smaller of its
// distances from the anchor and from the positive, as torch.minimum has them.
#pragma once

#include "semantics/portable.h"

namespace facenet {

// NaN stays NaN.
template <class T>
FACENET_HD T swapped_distance(T d_an, T d_pn) {
  return d_pn < d_an || d_pn != d_pn ? d_pn : d_an;
}

// Its derivative in d(a,n). What is missing to 1 is that in d(p,n): at a tie half goes to each.
template <class T>
FACENET_HD T anchor_share(T d_an, T d_pn) {
  return d_an < d_pn ? T(1) : d_pn < d_an ? T(0) : T(0.5);
}

}  // namespace facenet
