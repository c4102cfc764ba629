// The twin of CUB's header: prefix sums on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstring>

namespace cub {

struct DeviceScan {
  template <class In, class Out, class Count>
  static cudaError_t ExclusiveSum(void* temporary, size_t& bytes, In in, Out out, Count count,
                                  cudaStream_t stream = nullptr) {
    return sum(temporary, bytes, in, out, count, stream, false);
  }

  template <class In, class Out, class Count>
  static cudaError_t InclusiveSum(void* temporary, size_t& bytes, In in, Out out, Count count,
                                  cudaStream_t stream = nullptr) {
    return sum(temporary, bytes, in, out, count, stream, true);
  }

 private:
  template <class In, class Out, class Count>
  static cudaError_t sum(void* temporary, size_t& bytes, In in, Out out, Count count, cudaStream_t,
                         bool inclusive) {
    const size_t needed = 256 + size_t(count) / 64;
    if (temporary == nullptr) {
      bytes = needed;
      return cudaSuccess;
    }
    if (bytes < needed) return cudaErrorInvalidValue;
    facenet::emulation::log("cub::DeviceScan");
    // As a device would use it: what the caller has there is lost.
    std::memset(temporary, 0xff, bytes);
    using T = std::decay_t<decltype(in[0])>;
    T total = T();
    for (Count i = 0; i < count; ++i) {
      const T before = total;
      total = T(total + in[i]);  // in may be out
      out[i] = inclusive ? total : before;
    }
    return cudaSuccess;
  }
};

}  // namespace cub
