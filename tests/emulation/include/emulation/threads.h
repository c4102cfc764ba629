// Who a thread is, barriers, and warp collectives, under CUDA's names.
#pragma once

#include <cstdint>
#include <cstring>

#include "emulation/device_api.h"
#include "emulation/vector_types.h"

// In the static part of thread-local storage: read at every use of an index. The runtime sets them
// when it switches threads.
#define FACENET_EMULATED_INDEX \
  extern FACENET_EMULATION_API __thread __attribute__((tls_model("initial-exec"))) uint3
FACENET_EMULATED_INDEX threadIdx;
FACENET_EMULATED_INDEX blockIdx;
FACENET_EMULATED_INDEX blockDim;
FACENET_EMULATED_INDEX gridDim;
#undef FACENET_EMULATED_INDEX
constexpr int warpSize = 32;

__forceinline__ void __syncthreads() {
  facenet::emulation::block_barrier(facenet::emulation::BarrierKind::kSync, false);
}
__forceinline__ int __syncthreads_count(int predicate) {
  return facenet::emulation::block_barrier(facenet::emulation::BarrierKind::kCount, predicate);
}
__forceinline__ int __syncthreads_and(int predicate) {
  return facenet::emulation::block_barrier(facenet::emulation::BarrierKind::kAnd, predicate);
}
__forceinline__ int __syncthreads_or(int predicate) {
  return facenet::emulation::block_barrier(facenet::emulation::BarrierKind::kOr, predicate);
}
__forceinline__ void __syncwarp(unsigned mask = 0xffffffff) { facenet::emulation::sync_warp(mask); }

// Only the race detector of blocks takes note: all else happens in order here.
__forceinline__ void __threadfence() { facenet::emulation::fence(); }
__forceinline__ void __threadfence_system() { facenet::emulation::fence(); }
inline void __threadfence_block() {}
__forceinline__ void __nanosleep(unsigned) { facenet::emulation::yield_thread(); }
__forceinline__ void __trap() { facenet::emulation::fault("__trap()"); }

// The least that a device may return: lanes need not have converged.
inline unsigned __activemask() { return facenet::emulation::lane_mask(); }

namespace facenet::emulation {

template <class T>
__forceinline__ uint64_t to_bits(T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8, "no such shuffle");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
__forceinline__ T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

}  // namespace facenet::emulation

#define FACENET_EMULATED_SHUFFLE(name, kind, By)                                          \
  template <class T>                                                                      \
  __forceinline__ T name(unsigned mask, T value, By by, int width = warpSize) {           \
    return facenet::emulation::from_bits<T>(                                              \
        facenet::emulation::shuffle(facenet::emulation::ShuffleKind::kind, mask,          \
                                    facenet::emulation::to_bits(value), int(by), width)); \
  }
FACENET_EMULATED_SHUFFLE(__shfl_sync, kIndex, int)
FACENET_EMULATED_SHUFFLE(__shfl_up_sync, kUp, unsigned)
FACENET_EMULATED_SHUFFLE(__shfl_down_sync, kDown, unsigned)
FACENET_EMULATED_SHUFFLE(__shfl_xor_sync, kXor, int)
#undef FACENET_EMULATED_SHUFFLE

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
  return facenet::emulation::ballot(mask, predicate);
}
__forceinline__ int __any_sync(unsigned mask, int predicate) {
  return facenet::emulation::ballot(mask, predicate) != 0;
}
__forceinline__ int __all_sync(unsigned mask, int predicate) {
  return facenet::emulation::ballot(mask, predicate) == mask;
}
template <class T>
__forceinline__ unsigned __match_any_sync(unsigned mask, T value) {
  return facenet::emulation::match_any(mask, facenet::emulation::to_bits(value));
}
template <class T>
__forceinline__ unsigned __match_all_sync(unsigned mask, T value, int* all_equal) {
  const bool all = facenet::emulation::match_any(mask, facenet::emulation::to_bits(value)) == mask;
  *all_equal = all;
  return all ? mask : 0;
}

#define FACENET_EMULATED_REDUCE(name, T, kind)                                                    \
  __forceinline__ T name(unsigned mask, T value) {                                                \
    return T(                                                                                     \
        facenet::emulation::reduce(facenet::emulation::ReduceKind::kind, mask, uint32_t(value))); \
  }
FACENET_EMULATED_REDUCE(__reduce_add_sync, unsigned, kAdd)
FACENET_EMULATED_REDUCE(__reduce_add_sync, int, kAdd)
FACENET_EMULATED_REDUCE(__reduce_min_sync, unsigned, kMin)
FACENET_EMULATED_REDUCE(__reduce_min_sync, int, kMinSigned)
FACENET_EMULATED_REDUCE(__reduce_max_sync, unsigned, kMax)
FACENET_EMULATED_REDUCE(__reduce_max_sync, int, kMaxSigned)
FACENET_EMULATED_REDUCE(__reduce_and_sync, unsigned, kAnd)
FACENET_EMULATED_REDUCE(__reduce_or_sync, unsigned, kOr)
FACENET_EMULATED_REDUCE(__reduce_xor_sync, unsigned, kXor)
#undef FACENET_EMULATED_REDUCE

__forceinline__ size_t __cvta_generic_to_shared(const void* pointer) {
  return facenet::emulation::shared_offset(pointer);
}
