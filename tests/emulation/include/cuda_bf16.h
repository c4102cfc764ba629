// The twin of CUDA's header: bfloat16 as storage, with its conversions.
#pragma once

#include "cuda_runtime.h"
#include "emulation/small_floats.h"

#define FACENET_SMALL __nv_bfloat16
#define FACENET_SMALL_RAW __nv_bfloat16_raw
#define FACENET_SMALL2 __nv_bfloat162
#define FACENET_SMALL_FROM facenet::emulation::float_to_bfloat16
#define FACENET_SMALL_TO facenet::emulation::bfloat16_to_float
#include "emulation/small_float_type.h"
#undef FACENET_SMALL
#undef FACENET_SMALL_RAW
#undef FACENET_SMALL2
#undef FACENET_SMALL_FROM
#undef FACENET_SMALL_TO

inline __nv_bfloat16 __float2bfloat16(float x) { return {x}; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {x}; }
inline __nv_bfloat16 __double2bfloat16(double x) { return __nv_bfloat16(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return float(x); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return __nv_bfloat16_raw(x).x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return __nv_bfloat16_raw{x}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {float(v.x), float(v.y)}; }
inline float __low2float(__nv_bfloat162 v) { return float(v.x); }
inline float __high2float(__nv_bfloat162 v) { return float(v.y); }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
