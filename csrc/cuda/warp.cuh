// What kernels with a warp per row share.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/compensated_sum.h"

namespace facenet::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int kBlock = 256;  // threads of the kernels that are not the pair stream's

__device__ inline int lane() { return int(threadIdx.x) % 32; }
__device__ inline int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t warp_number() { return thread_number() / 32; }

inline unsigned blocks_of_threads(int64_t threads) {
  return unsigned((threads + kBlock - 1) / kBlock);
}
inline unsigned blocks_of_warps(int64_t warps) { return blocks_of_threads(32 * warps); }

// x[at] for an `at` that is known at run time only: registers have no addresses.
template <class T, int n>
__device__ __forceinline__ T pick(const T (&x)[n], int at) {
  T picked = x[0];
#pragma unroll
  for (int v = 1; v < n; ++v) picked = at == v ? x[v] : picked;
  return picked;
}

// n values that lie together, aligned.
template <class T, int n>
struct alignas(n * sizeof(T)) Several {
  T x[n];
};
template <int n, class T>
__device__ __forceinline__ Several<T, n> load_several(const T* from) {
  return *reinterpret_cast<const Several<T, n>*>(from);
}

// Adds the same lanes in the same order every time, so the result has the same bits.
template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(kAllLanes, value, apart);
  return value;
}

__device__ inline int32_t warp_sum(int32_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_add_sync(kAllLanes, value);
#else
  return warp_sum<int32_t>(value);
#endif
}

template <class T>
__device__ CompensatedSum<T> warp_sum(CompensatedSum<T> value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    value.add({__shfl_xor_sync(kAllLanes, value.sum, apart),
               __shfl_xor_sync(kAllLanes, value.rest, apart)});
  }
  return value;
}

template <class T>
__device__ T warp_max(T value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, apart);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace facenet::cuda
