// distance_histogram, as its operator calls it.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"
#include "semantics/bins.h"

namespace facenet::cuda {

struct HistogramArguments {
  Bins bins;
  const int64_t* labels;       // [M]
  const int64_t* ref_labels;   // [N]
  unsigned long long* counts;  // [2, bins.columns()], zero at first
};

template <class T>
void count_distances(const Device& device, const Pairs<T>& pairs, const HistogramArguments& to);

}  // namespace facenet::cuda
