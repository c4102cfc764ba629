// What the kernels take from CUB, the toolkit's library: sorts and sums over a whole device.
//
// In one file of its own, since its templates take longer to compile than all else here.
#pragma once

#include "cuda/device.h"

namespace facenet::cuda {

template <class T>
struct Edge;

// Stable: what has equal keys keeps its order. Keys are below `keys`.
void sort_by_key(const Device& device, int64_t count, int64_t keys, const uint32_t* from,
                 uint32_t* sorted, const int32_t* values, int32_t* sorted_values);

// The same for edges, whose keys may be kNoRow too: these come last.
template <class T>
void sort_by_key(const Device& device, int64_t count, int64_t keys, const uint32_t* from,
                 uint32_t* sorted, const Edge<T>* values, Edge<T>* sorted_values);

// sums[k] becomes the sum of the terms before term k. [count] both
void add_up(const Device& device, int64_t count, const int64_t* terms, int64_t* sums);

}  // namespace facenet::cuda
