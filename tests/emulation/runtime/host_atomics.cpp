// What -fsanitize=thread makes of the atomic operations of the launching side, such as the
// reference counts of tensors: the operations, at their strongest order. Kernels have none of
// these; their atomic operations are functions of the runtime.
#include <cstdint>

#define FACENET_ENTRY extern "C" __attribute__((visibility("default")))
#define FACENET_UPDATE(bits, name)                                                                \
  FACENET_ENTRY uint##bits##_t __tsan_atomic##bits##_##name(uint##bits##_t* at, uint##bits##_t v, \
                                                            int) {                                \
    return __atomic_##name(at, v, __ATOMIC_SEQ_CST);                                              \
  }
#define FACENET_COMPARE(bits, name, weak)                                                          \
  FACENET_ENTRY int __tsan_atomic##bits##_##name(uint##bits##_t* at, uint##bits##_t* expected,     \
                                                 uint##bits##_t v, int, int) {                     \
    return __atomic_compare_exchange_n(at, expected, v, weak, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define FACENET_ATOMICS(bits)                                                                 \
  FACENET_ENTRY uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* at, int) {    \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                             \
  }                                                                                           \
  FACENET_ENTRY void __tsan_atomic##bits##_store(uint##bits##_t* at, uint##bits##_t v, int) { \
    __atomic_store_n(at, v, __ATOMIC_SEQ_CST);                                                \
  }                                                                                           \
  FACENET_ENTRY uint##bits##_t __tsan_atomic##bits##_exchange(uint##bits##_t* at,             \
                                                              uint##bits##_t v, int) {        \
    return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                           \
  FACENET_UPDATE(bits, fetch_add)                                                             \
  FACENET_UPDATE(bits, fetch_sub)                                                             \
  FACENET_UPDATE(bits, fetch_and)                                                             \
  FACENET_UPDATE(bits, fetch_or)                                                              \
  FACENET_UPDATE(bits, fetch_xor)                                                             \
  FACENET_COMPARE(bits, compare_exchange_strong, false)                                       \
  FACENET_COMPARE(bits, compare_exchange_weak, true)
FACENET_ATOMICS(8)
FACENET_ATOMICS(16)
FACENET_ATOMICS(32)
FACENET_ATOMICS(64)

FACENET_ENTRY void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
FACENET_ENTRY void __tsan_atomic_signal_fence(int) {}
