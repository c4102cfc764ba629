// Losses of a softmax over an anchor's pairs, at a temperature t.
//
// The softmax of anchor i goes over a set A(i) of its candidates, with exp(-d(i, j) / t) for each.
// What one of its positives p falls short of the whole is
//
//   v(i, p) = log sum over j in A(i) of exp(-d(i, j) / t)  +  d(i, p) / t
//
//   loss    A(i)           anchor i adds                           source
//   supcon  P(i) and N(i)  mean over p in P(i) of v(i, p)          Khosla et al. 2020, L_out
//   ntxent  N(i)           sum over p in P(i) of softplus(v(i, p)) Chen et al. 2020: -log of
//                          exp(-d(i, p) / t) / (exp(-d(i, p) / t) + sum over N(i))
//
// d is the cosine distance, 1 - cos: the constant 1 cancels. Without any negative in the batch the
// loss is 0. The sum is taken relative to its largest term, that of the closest pair:
//
//   sum = sum over j in A(i) of exp((closest - d(i, j)) / t),   log sum - closest / t
//
// It is a state that grows with each pair: a closer pair multiplies what is there by
// exp((its d - closest) / t).
#pragma once

#include "semantics/hinge.h"

namespace facenet {

enum class SoftmaxLoss : int32_t { kSupCon, kNtXent };

// Whether A(i) has the positives.
FACENET_HD bool sums_positives(SoftmaxLoss loss) { return loss == SoftmaxLoss::kSupCon; }

// What a positive adds to its anchor's loss before the share, and the derivative of that in v.
template <class T>
FACENET_HD T softmax_term(SoftmaxLoss loss, T v) {
  return loss == SoftmaxLoss::kSupCon ? v : hinge(v, true);
}
template <class T>
FACENET_HD T softmax_slope(SoftmaxLoss loss, T v) {
  return loss == SoftmaxLoss::kSupCon ? T(1) : hinge_slope(v, true);
}

// What the terms of an anchor with so many positives are multiplied by.
template <class T>
FACENET_HD T softmax_share(SoftmaxLoss loss, int64_t positives) {
  if (positives == 0) return T(0);
  return loss == SoftmaxLoss::kSupCon ? T(1) / T(positives) : T(1);
}

// What "mean_nonzero" counts of an anchor, whose loss rounding does not decide: an anchor whose
// softmax has more than its one positive, or the positives of an anchor that has a negative.
FACENET_HD int64_t softmax_nonzero(SoftmaxLoss loss, int64_t positives, int64_t negatives) {
  if (loss == SoftmaxLoss::kSupCon) return positives > 0 && positives + negatives > 1 ? 1 : 0;
  return negatives > 0 ? positives : 0;
}

// What "mean" counts: anchors, or pairs of an anchor and a positive.
FACENET_HD int64_t softmax_counted(SoftmaxLoss loss, int64_t positives) {
  return loss == SoftmaxLoss::kSupCon ? 1 : positives;
}

// Whether the batch has any negative pair. Classes [begin, end) of the anchors among the
// candidates, both sorted by label, so that the first and the last anchor tell.
FACENET_HD bool has_negatives(const int32_t* begin, const int32_t* end, int64_t anchors,
                              int64_t candidates) {
  const int64_t last = anchors - 1;
  return anchors > 0 && (end[0] - begin[0] < candidates || end[last] - begin[last] < candidates);
}

}  // namespace facenet
