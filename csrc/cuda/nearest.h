// nearest, as its operator calls it.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

// The k closest candidates of each anchor: distances, indices [M, k]. See semantics/nearest.h.
template <class T>
void find_nearest(const Device& device, const Pairs<T>& pairs, int64_t k, T* distances,
                  int64_t* indices);

}  // namespace facenet::cuda
