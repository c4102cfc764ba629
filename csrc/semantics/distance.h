// What a distance is, given the sum of squared differences of two rows.
//
//   kind          rows                 value            gradient with respect to s = sum((x - c)^2)
//   sqeuclidean   as they are          s                1
//   euclidean     as they are          sqrt(s)          1 / (2 sqrt(s)), 0 at s = 0
//   cosine        normalised to 1      s / 2 = 1 - cos  1/2
//
// A row of zeros has no direction. Its cosine distance to every row, itself included, is 1 and
// has no gradient.
#pragma once

#include <cmath>

#include "semantics/portable.h"

namespace facenet {

enum class Distance : int32_t { kSqEuclidean, kEuclidean, kCosine };

template <class T>
FACENET_HD T distance_from_squares(Distance kind, T squares) {
  switch (kind) {
    case Distance::kEuclidean:
      return std::sqrt(squares);
    case Distance::kCosine:
      return squares * T(0.5);
    default:
      return squares;
  }
}

// d(distance)/d(x_i) = slope * (x_i - c_j), on normalised rows for the cosine.
template <class T>
FACENET_HD T distance_slope(Distance kind, T distance) {
  switch (kind) {
    case Distance::kEuclidean:
      return distance > T(0) ? T(1) / distance : T(0);
    case Distance::kCosine:
      return T(1);
    default:
      return T(2);
  }
}

}  // namespace facenet
