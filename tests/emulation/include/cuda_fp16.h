// The twin of CUDA's header: float16 as storage, with its conversions.
#pragma once

#include "cuda_runtime.h"
#include "emulation/small_floats.h"

#define FACENET_SMALL __half
#define FACENET_SMALL_RAW __half_raw
#define FACENET_SMALL2 __half2
#define FACENET_SMALL_FROM facenet::emulation::float_to_half
#define FACENET_SMALL_TO facenet::emulation::half_to_float
#include "emulation/small_float_type.h"
#undef FACENET_SMALL
#undef FACENET_SMALL_RAW
#undef FACENET_SMALL2
#undef FACENET_SMALL_FROM
#undef FACENET_SMALL_TO

using half = __half;
using half2 = __half2;

inline __half __float2half(float x) { return {x}; }
inline __half __float2half_rn(float x) { return {x}; }
inline __half __double2half(double x) { return __half(x); }
inline float __half2float(__half x) { return float(x); }
inline unsigned short __half_as_ushort(__half x) { return __half_raw(x).x; }
inline __half __ushort_as_half(unsigned short x) { return __half_raw{x}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 v) { return {float(v.x), float(v.y)}; }
inline float __low2float(__half2 v) { return float(v.x); }
inline float __high2float(__half2 v) { return float(v.y); }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
