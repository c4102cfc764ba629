// What nvcc has built in: qualifiers of functions and variables. Device code is host code here.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __builtin_assume(condition) static_cast<void>(0)

// Static storage is the block's, since blocks run one after the other on one thread of the system.
// Thread-local, it lies in a segment of its own, whose bounds are known to the race detector and
// to the code that refills it between blocks; AddressSanitizer, however, guards only variables
// that are not thread-local.
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#define FACENET_EMULATION_API __attribute__((visibility("default")))
