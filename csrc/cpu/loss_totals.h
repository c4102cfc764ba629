// What the losses of a batch add up to, and what an operator returns of it.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>

#include "common/options.h"

namespace facenet::cpu {

struct LossTotals {
  double loss = 0;
  int64_t counted = 0;  // what "mean" divides by
  int64_t nonzero = 0;  // what "mean_nonzero" divides by

  void add(double more, int64_t more_counted, int64_t more_nonzero) {
    loss += more;
    counted += more_counted;
    nonzero += more_nonzero;
  }

  // Where an embedding is not finite, whatever it was part of.
  void poison() { loss = poison_ = std::numeric_limits<double>::quiet_NaN(); }

  // Without triplets the sum is 0, so any divisor but 0 will do. The gradients' factor is 1 by it.
  double divisor(Reduction reduction) const {
    if (reduction == Reduction::kSum) return poison_;
    const int64_t count = reduction == Reduction::kMean ? counted : nonzero;
    return poison_ * double(std::max<int64_t>(count, 1));
  }

  // []
  template <class T>
  Tensor value(const Tensor& emb, Reduction reduction) const {
    Tensor out = torch::stable::new_empty(emb, {}, kValueType<T>);
    *static_cast<T*>(out.data_ptr()) = T(loss / divisor(reduction));
    return out;
  }

  // [3]
  Tensor tensor(const Tensor& emb) const {
    Tensor out = torch::stable::new_empty(emb, {3}, ScalarType::Double);
    double* const to = static_cast<double*>(out.data_ptr());
    to[0] = loss;
    to[1] = double(counted);
    to[2] = double(nonzero);
    return out;
  }

 private:
  double poison_ = 1;
};

}  // namespace facenet::cpu
