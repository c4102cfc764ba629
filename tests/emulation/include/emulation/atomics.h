// Atomic operations, under CUDA's names.
#pragma once

#include "emulation/device_api.h"

#define FACENET_EMULATED_ATOMIC(name, T, kind)                                                 \
  __forceinline__ T name(T* address, T value) {                                                \
    using facenet::emulation::AtomicKind;                                                      \
    return facenet::emulation::atomic<T>(AtomicKind::kind, address, value, decltype(value)()); \
  }
#define FACENET_EMULATED_INTEGER_ATOMICS(T)                                                     \
  FACENET_EMULATED_ATOMIC(atomicAdd, T, kAdd)                                                   \
  FACENET_EMULATED_ATOMIC(atomicMin, T, kMin)                                                   \
  FACENET_EMULATED_ATOMIC(atomicMax, T, kMax)                                                   \
  FACENET_EMULATED_ATOMIC(atomicAnd, T, kAnd)                                                   \
  FACENET_EMULATED_ATOMIC(atomicOr, T, kOr)                                                     \
  FACENET_EMULATED_ATOMIC(atomicXor, T, kXor)                                                   \
  FACENET_EMULATED_ATOMIC(atomicExch, T, kExchange)                                             \
  __forceinline__ T atomicCAS(T* address, T compare, T value) {                                 \
    using facenet::emulation::AtomicKind;                                                       \
    return facenet::emulation::atomic<T>(AtomicKind::kCompareAndSwap, address, value, compare); \
  }
FACENET_EMULATED_INTEGER_ATOMICS(int)
FACENET_EMULATED_INTEGER_ATOMICS(unsigned)
FACENET_EMULATED_INTEGER_ATOMICS(unsigned long long)
FACENET_EMULATED_ATOMIC(atomicAdd, float, kAdd)
FACENET_EMULATED_ATOMIC(atomicAdd, double, kAdd)
FACENET_EMULATED_ATOMIC(atomicExch, float, kExchange)
#undef FACENET_EMULATED_INTEGER_ATOMICS
#undef FACENET_EMULATED_ATOMIC

__forceinline__ int atomicSub(int* address, int value) { return atomicAdd(address, -value); }
__forceinline__ unsigned atomicSub(unsigned* address, unsigned value) {
  return atomicAdd(address, 0u - value);
}
