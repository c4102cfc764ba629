// The loss of one triplet, from v = d(a,p) - d(a,n) + margin, and its derivative in v.
#pragma once

#include <cmath>

#include "semantics/portable.h"

namespace facenet {

// max(0, v), or softplus(v) = log(1 + exp(v)) where smooth. NaN stays NaN.
template <class T>
FACENET_HD T hinge(T v, bool smooth) {
  if (smooth) return (v > T(0) ? v : T(0)) + std::log1p(std::exp(v > T(0) ? -v : v));
  return v < T(0) ? T(0) : v;
}

template <class T>
FACENET_HD T hinge_slope(T v, bool smooth) {
  if (!smooth) return v <= T(0) ? T(0) : T(1);
  const T e = std::exp(v > T(0) ? -v : v);
  return v > T(0) ? T(1) / (T(1) + e) : e / (T(1) + e);
}

}  // namespace facenet
