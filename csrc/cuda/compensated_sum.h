// A sum and, apart, what its additions rounded off (Knuth's TwoSum): for terms that cancel.
#pragma once

#include <cuda_runtime.h>

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

}  // namespace facenet::cuda
