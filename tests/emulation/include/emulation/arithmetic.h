// CUDA's arithmetic intrinsics and its overloads of min and max.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulation/qualifiers.h"

#define FACENET_EMULATED_MIN_MAX(T, A, B)                 \
  constexpr T min(A a, B b) {                             \
    const T x = static_cast<T>(a), y = static_cast<T>(b); \
    return y < x ? y : x;                                 \
  }                                                       \
  constexpr T max(A a, B b) {                             \
    const T x = static_cast<T>(a), y = static_cast<T>(b); \
    return x < y ? y : x;                                 \
  }
#define FACENET_EMULATED_MIXED_MIN_MAX(T, A) \
  FACENET_EMULATED_MIN_MAX(T, T, T)          \
  FACENET_EMULATED_MIN_MAX(T, A, T)          \
  FACENET_EMULATED_MIN_MAX(T, T, A)
FACENET_EMULATED_MIN_MAX(int, int, int)
FACENET_EMULATED_MIN_MAX(long, long, long)
FACENET_EMULATED_MIN_MAX(long long, long long, long long)
FACENET_EMULATED_MIXED_MIN_MAX(unsigned, int)
FACENET_EMULATED_MIXED_MIN_MAX(unsigned long, long)
FACENET_EMULATED_MIXED_MIN_MAX(unsigned long long, long long)
#undef FACENET_EMULATED_MIXED_MIN_MAX
#undef FACENET_EMULATED_MIN_MAX

// A NaN loses, as on a device.
#define FACENET_EMULATED_FLOATING_MIN_MAX(T, A, B)         \
  inline T min(A a, B b) { return std::fmin(T(a), T(b)); } \
  inline T max(A a, B b) { return std::fmax(T(a), T(b)); }
FACENET_EMULATED_FLOATING_MIN_MAX(float, float, float)
FACENET_EMULATED_FLOATING_MIN_MAX(double, double, double)
FACENET_EMULATED_FLOATING_MIN_MAX(double, float, double)
FACENET_EMULATED_FLOATING_MIN_MAX(double, double, float)
#undef FACENET_EMULATED_FLOATING_MIN_MAX

#define FACENET_EMULATED_CAST(name, To, From)         \
  inline To name(From value) {                        \
    static_assert(sizeof(To) == sizeof(From), #name); \
    To bits;                                          \
    std::memcpy(&bits, &value, sizeof(To));           \
    return bits;                                      \
  }
FACENET_EMULATED_CAST(__float_as_uint, unsigned, float)
FACENET_EMULATED_CAST(__float_as_int, int, float)
FACENET_EMULATED_CAST(__uint_as_float, float, unsigned)
FACENET_EMULATED_CAST(__int_as_float, float, int)
FACENET_EMULATED_CAST(__double_as_longlong, long long, double)
FACENET_EMULATED_CAST(__longlong_as_double, double, long long)
#undef FACENET_EMULATED_CAST

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(unsigned(x))) << 32 | __brev(unsigned(x >> 32));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned byte = unsigned(bytes >> 8 * (selector >> 4 * i & 7)) & 0xff;
    const bool sign = (selector >> 4 * i & 8) != 0;
    result |= (sign ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
  }
  return result;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return float(1.0 / std::sqrt(double(x))); }
inline float rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline int __float2int_rn(float x) { return int(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline int __float2int_rd(float x) { return int(std::floor(x)); }

// min and max of two or three, and of a sum; sums wrap around.
#define FACENET_EMULATED_VIMINMAX(T, suffix)                    \
  inline T __vimin_##suffix(T a, T b) { return b < a ? b : a; } \
  inline T __vimax_##suffix(T a, T b) { return a < b ? b : a; } \
  inline T __vimin3_##suffix(T a, T b, T c) {                   \
    return __vimin_##suffix(__vimin_##suffix(a, b), c);         \
  }                                                             \
  inline T __vimax3_##suffix(T a, T b, T c) {                   \
    return __vimax_##suffix(__vimax_##suffix(a, b), c);         \
  }                                                             \
  inline T __viaddmin_##suffix(T a, T b, T c) {                 \
    return __vimin_##suffix(T(unsigned(a) + unsigned(b)), c);   \
  }                                                             \
  inline T __viaddmax_##suffix(T a, T b, T c) {                 \
    return __vimax_##suffix(T(unsigned(a) + unsigned(b)), c);   \
  }
FACENET_EMULATED_VIMINMAX(int, s32)
FACENET_EMULATED_VIMINMAX(unsigned, u32)
#undef FACENET_EMULATED_VIMINMAX

// Cache hints change nothing.
#define FACENET_EMULATED_LOAD(name)    \
  template <class T>                   \
  __forceinline__ T name(const T* p) { \
    return *p;                         \
  }
FACENET_EMULATED_LOAD(__ldg)
FACENET_EMULATED_LOAD(__ldca)
FACENET_EMULATED_LOAD(__ldcg)
FACENET_EMULATED_LOAD(__ldcs)
FACENET_EMULATED_LOAD(__ldlu)
FACENET_EMULATED_LOAD(__ldcv)
#undef FACENET_EMULATED_LOAD
#define FACENET_EMULATED_STORE(name)         \
  template <class T>                         \
  __forceinline__ void name(T* p, T value) { \
    *p = value;                              \
  }
FACENET_EMULATED_STORE(__stwb)
FACENET_EMULATED_STORE(__stcg)
FACENET_EMULATED_STORE(__stcs)
FACENET_EMULATED_STORE(__stwt)
#undef FACENET_EMULATED_STORE
