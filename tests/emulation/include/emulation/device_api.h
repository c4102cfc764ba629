// What device code calls in the emulation's runtime. The names CUDA gives these are in threads.h,
// atomics.h and cuda/ptx.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/qualifiers.h"

namespace facenet::emulation {

// Ends the launch with a report of the running thread; the launching thread throws it.
[[noreturn]] FACENET_EMULATION_API void fault(const char* what);

FACENET_EMULATION_API void require_capability(int capability, const char* instruction);

enum class BarrierKind { kSync, kCount, kAnd, kOr };
FACENET_EMULATION_API int block_barrier(BarrierKind kind, bool predicate);
FACENET_EMULATION_API void fence();
FACENET_EMULATION_API void yield_thread();
FACENET_EMULATION_API uint32_t lane_mask();  // the bit of this thread in its warp

// Warp collectives. Values travel as 64 bits.
enum class ShuffleKind { kIndex, kUp, kDown, kXor };
enum class ReduceKind { kAdd, kMin, kMax, kMinSigned, kMaxSigned, kAnd, kOr, kXor };
FACENET_EMULATION_API void sync_warp(uint32_t mask);
FACENET_EMULATION_API uint64_t shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int by,
                                       int width);
FACENET_EMULATION_API uint32_t ballot(uint32_t mask, bool predicate);
FACENET_EMULATION_API uint32_t match_any(uint32_t mask, uint64_t value);
FACENET_EMULATION_API uint32_t reduce(ReduceKind kind, uint32_t mask, uint32_t value);

// Atomic operations, in the runtime: there the race detector's instrumentation does not take them
// for plain accesses. For int, unsigned, unsigned long long, float and double.
enum class AtomicKind { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange, kCompareAndSwap };
template <class T>
FACENET_EMULATION_API T atomic(AtomicKind kind, T* address, T value, T compare);
FACENET_EMULATION_API void atomic_load(const void* address, void* value, size_t bytes);

FACENET_EMULATION_API unsigned char* dynamic_shared_memory();
FACENET_EMULATION_API size_t shared_offset(const void* pointer);
FACENET_EMULATION_API void copy_async(void* shared, const void* global, int bytes);
FACENET_EMULATION_API void commit_copies();
FACENET_EMULATION_API void wait_for_copies(int pending);

enum class MatrixType { kBfloat16, kHalf, kTf32 };
FACENET_EMULATION_API void load_matrices(uint32_t (&matrices)[4], const void* row);
FACENET_EMULATION_API void multiply_matrices(MatrixType type, float (&c)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]);

// For guarding the gaps between arrays: AddressSanitizer reports accesses; nothing without it.
FACENET_EMULATION_API void guard_memory(void* begin, size_t bytes);
FACENET_EMULATION_API void unguard_memory(void* begin, size_t bytes);

// The number in FACENET_EMULATED_<name>, where the environment has one.
FACENET_EMULATION_API int64_t limit(const char* name, int64_t otherwise);

// Adds a line to the file FACENET_EMULATED_LOG, where the environment names one.
FACENET_EMULATION_API void log(const char* what);

}  // namespace facenet::emulation
