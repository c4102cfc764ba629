// The reduction: from the losses of anchors to the batch's loss, and the factor of its gradients.
#pragma once

#include "common/rules.h"
#include "cuda/labels.h"
#include "cuda/launch.h"
#include "cuda/prepare.h"

namespace facenet::cuda {

// Sums over the triplets of each anchor, [M] each.
template <class T, class Count>
struct LossSums {
  T* loss;
  Count* triplets;
  Count* nonzero;
};

// How the anchors are added up, and what is written. An embedding that is not finite, or a class
// beyond its bound, makes the loss NaN.
template <class T>
struct LossReduction {
  Reduction how;
  const RowFlags* flags;
  const ClassSizes* sizes;
  T* loss;         // []
  T* scale;        // [] of the gradients
  double* totals;  // [3] the sum, and its divisors for "mean" and for "mean_nonzero"
};

// `sizes` for the message of an error.
template <class T, class Count>
void reduce(const Device& device, const Sizes& sizes, const LossSums<T, Count>& sums,
            int32_t anchors, const LossReduction<T>& to);

}  // namespace facenet::cuda
