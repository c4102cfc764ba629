// softmax_loss, as its operator calls it.
#pragma once

#include "cuda/compensated_sum.h"
#include "cuda/loss_sums.h"
#include "cuda/push.h"
#include "semantics/softmax.h"

namespace facenet::cuda {

// Of a part of an anchor's softmax.
template <class T>
struct SoftmaxSum {
  T closest = T(INFINITY);
  CompensatedSum<T> sum;  // of exp((closest - d) / t)

  __device__ void add(T other_closest, const CompensatedSum<T>& other, T temperature) {
    if (!(other_closest < T(INFINITY))) return;
    const T least = other_closest < closest ? other_closest : closest;
    const T kept = exp((least - closest) / temperature);
    const T added = exp((least - other_closest) / temperature);
    sum = {sum.sum * kept, sum.rest * kept};
    sum.add({other.sum * added, other.rest * added});
    closest = least;
  }
};

// What the weights of an anchor's pairs are made of, [M] each.
template <class T>
struct SoftmaxAnchors {
  T* closest;
  T* log_sum;
  T* factor;  // of exp((closest - d) / t)
  T* share;   // of a positive's slope
};

template <class T>
struct SoftmaxArguments {
  SoftmaxLoss loss;
  T temperature;
  Pairs<T> pairs;      // anchors and candidates, whichever of them the rows are
  bool rows, columns;  // whether these are anchors; in self mode both
  SoftmaxAnchors<T> anchors;
  SoftmaxSum<T>* sums;  // [stripes, M]

  __device__ int32_t row_count() const {
    return rows ? pairs.anchors.count : pairs.candidates.count;
  }
  // Whether a row and a column have one class; sorted positions.
  __device__ bool are_of_one_class(int32_t row, int32_t column) const {
    const int32_t i = rows ? row : column, j = rows ? column : row;
    return j >= pairs.class_begin[i] && j < pairs.class_end[i];
  }
  __device__ bool are_excluded(int32_t row, int32_t column) const {
    return pairs.excluded(rows ? row : column, rows ? column : row);
  }
};

// Fills `of.anchors` and the losses: the sums of all pairs, then the terms of the positives.
// `partial` is that of the schema.
template <class T>
void find_softmax_losses(const PushPass<T>& pass, const SoftmaxArguments<T>& of, bool partial,
                         const LossSums<T, int64_t>& losses);

// The gradient of the pass' rows.
template <class T>
void push_softmax(const PushPass<T>& pass, const SoftmaxArguments<T>& of, T* gradient);

}  // namespace facenet::cuda
