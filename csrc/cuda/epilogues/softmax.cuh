// softmax: losses of a softmax over an anchor's pairs; see semantics/softmax.h and push.cuh.
//
// SoftmaxSums keeps each anchor's streaming log-sum-exp in the registers of its thread, one for
// each stripe of candidates. SoftmaxWeights pushes: an anchor's factor times exp((closest - d) / t)
// for each pair of its softmax, less the share of its positives.
#pragma once

#include "cuda/push.cuh"
#include "cuda/softmax_loss.h"

namespace facenet::cuda {

template <class T>
class SoftmaxSums {
 public:
  using Value = T;
  using Arguments = SoftmaxArguments<T>;
  __device__ SoftmaxSums(const Arguments& to, int32_t row) : to_(to), row_(row) {}

  __device__ bool weigh(int32_t first_column, int32_t columns, RowOfTile<T> tile) {
    if (row_ >= to_.row_count()) return false;
    T least = T(INFINITY), sum = 0;
#pragma unroll 1
    for (int32_t c = 0; c < columns; ++c) {
      const int32_t j = first_column + c;
      const bool out =
          to_.are_of_one_class(row_, j) && (!sums_positives(to_.loss) || to_.are_excluded(row_, j));
      if (out) tile[c] = T(INFINITY);
      least = tile[c] < least ? tile[c] : least;
    }
    if (!(least < T(INFINITY))) return false;
#pragma unroll 1
    for (int32_t c = 0; c < columns; ++c) sum += exp((least - tile[c]) / to_.temperature);
    state_.add(least, {sum, T(0)}, to_.temperature);
    to_.sums[int64_t(blockIdx.y) * to_.row_count() + row_] = state_;
    return false;
  }

 private:
  const Arguments& to_;
  const int32_t row_;
  SoftmaxSum<T> state_;
};

template <class T>
class SoftmaxWeights {
 public:
  using Value = T;
  using Arguments = SoftmaxArguments<T>;
  __device__ SoftmaxWeights(const Arguments& of, int32_t row) : of_(of), row_(row) {}

  __device__ bool weigh(int32_t first_column, int32_t columns, RowOfTile<T> tile) {
    const bool is_row = row_ < of_.row_count();
#pragma unroll 1
    for (int32_t c = 0; c < columns; ++c) {
      const int32_t j = first_column + c;
      const T d = tile[c];
      T weight = 0;
      if (is_row) {
        const bool positive = of_.are_of_one_class(row_, j);
        if (!positive || !of_.are_excluded(row_, j)) {
          if (of_.rows) weight += weight_of(row_, d, positive);
          if (of_.columns) weight += weight_of(j, d, positive);
        }
      }
      tile[c] = weight;
    }
    return is_row;
  }

 private:
  __device__ T weight_of(int32_t anchor, T d, bool positive) const {
    const SoftmaxAnchors<T>& a = of_.anchors;
    const T beyond = (d - a.closest[anchor]) / of_.temperature;
    T weight = 0;
    if (!positive || sums_positives(of_.loss)) weight = a.factor[anchor] * exp(-beyond);
    if (positive) {
      weight -= a.share[anchor] * softmax_slope(of_.loss, a.log_sum[anchor] + beyond);
    }
    return weight;
  }

  const Arguments& of_;
  const int32_t row_;
};

}  // namespace facenet::cuda
