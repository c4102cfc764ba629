// Distances for their own sake, by the pair stream.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

// Writes the distances of each anchor's own class to its slots.
template <class T>
void find_positives(const Device& device, const Pairs<T>& pairs, const Slots& slots, T* d_ap);

// Writes every distance, [M, N].
template <class T>
void store_distances(const Device& device, const Pairs<T>& pairs, T* out);

}  // namespace facenet::cuda
