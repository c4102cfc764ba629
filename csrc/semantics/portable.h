// The qualifier of functions that run on the host and on the device.
//
// It is keyed on the compiler, not on a build flag: the same header is plain C++ to g++ and
// host-and-device code to nvcc, so both backends are compiled from one text. The functions are
// always inlined. Of a function that is not inlined the linker keeps one copy, which could be the
// one for the widest instruction set.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define FACENET_HD __host__ __device__ __forceinline__
#else
#define FACENET_HD inline __attribute__((always_inline))
#endif
