// A sum and, apart, what its additions rounded off (Knuth's TwoSum): for terms that cancel.
#pragma once

#include "cuda/warp.cuh"

namespace facenet::cuda {

template <class T>
struct CompensatedSum {
  T sum = 0, rest = 0;

  __device__ void add(T x) {
    const T before = sum;
    sum += x;
    const T added = sum - before;
    rest += (before - (sum - added)) + (x - added);
  }
  __device__ void add_product(T x, T y) {
    const T product = x * y;
    add(product);
    rest += fma(x, y, -product);
  }
  __device__ void add(const CompensatedSum& other) {
    add(other.sum);
    rest += other.rest;
  }
  // If the sum is infinite, the rest is NaN.
  __device__ T value() const { return rest == rest ? sum + rest : sum; }
};

template <class T>
__device__ CompensatedSum<T> warp_sum(CompensatedSum<T> value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    value.add({__shfl_xor_sync(kAllLanes, value.sum, apart),
               __shfl_xor_sync(kAllLanes, value.rest, apart)});
  }
  return value;
}

}  // namespace facenet::cuda
