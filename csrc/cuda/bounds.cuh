// Binary search in ascending values.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace facenet::cuda {

// How many of the values are below x, or with kEqualToo at most x.
template <bool kEqualToo, class Index, class T>
__device__ Index count_below(const T* values, Index count, T x) {
  Index begin = 0;
  for (Index size = count; size > 0;) {
    const Index half = size / 2;
    const T middle = values[begin + half];
    const bool up = kEqualToo ? middle <= x : middle < x;
    begin = up ? begin + half + 1 : begin;
    size = up ? size - half - 1 : half;
  }
  return begin;
}

}  // namespace facenet::cuda
