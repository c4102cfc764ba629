// pairs_within, as its operator calls it.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

template <class T>
struct WithinArguments {
  T radius;
  int64_t capacity;
  unsigned long long* count;  // of all there are; 0 before
  int64_t* pairs;             // [capacity, 2]
  T* distance;                // [capacity]
};

template <class T>
void find_pairs_within(const Device& device, const Pairs<T>& pairs, const WithinArguments<T>& to);

}  // namespace facenet::cuda
