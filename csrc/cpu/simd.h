// Vectors of the instruction set this translation unit is compiled for.
//
// Arithmetic is the compiler's vector extension (g++ and clang). Only what it cannot say well is
// spelled in intrinsics: a comparison as a bit mask. `W` lanes of `T` fill one register.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef FACENET_ISA
#error "compile with -DFACENET_ISA=<name of the instruction set>"
#endif

namespace facenet::FACENET_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
inline constexpr int W = kVectorBytes / int(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <class T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

// Bit l is set where the comparison holds in lane l; a comparison with NaN never holds.
#if defined(__AVX512F__)
inline uint32_t greater(Vec<float> a, Vec<float> b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
}
inline uint32_t greater_equal(Vec<float> a, Vec<float> b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
}
inline uint32_t greater(Vec<double> a, Vec<double> b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ);
}
inline uint32_t greater_equal(Vec<double> a, Vec<double> b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GE_OQ);
}
#elif defined(__AVX2__)
inline uint32_t greater(Vec<float> a, Vec<float> b) {
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
}
inline uint32_t greater_equal(Vec<float> a, Vec<float> b) {
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
}
inline uint32_t greater(Vec<double> a, Vec<double> b) {
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_GT_OQ));
}
inline uint32_t greater_equal(Vec<double> a, Vec<double> b) {
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_GE_OQ));
}
#elif defined(__SSE2__)
inline uint32_t greater(Vec<float> a, Vec<float> b) {
  return _mm_movemask_ps(_mm_cmpgt_ps((__m128)a, (__m128)b));
}
inline uint32_t greater_equal(Vec<float> a, Vec<float> b) {
  return _mm_movemask_ps(_mm_cmpge_ps((__m128)a, (__m128)b));
}
inline uint32_t greater(Vec<double> a, Vec<double> b) {
  return _mm_movemask_pd(_mm_cmpgt_pd((__m128d)a, (__m128d)b));
}
inline uint32_t greater_equal(Vec<double> a, Vec<double> b) {
  return _mm_movemask_pd(_mm_cmpge_pd((__m128d)a, (__m128d)b));
}
#else
template <class V>
inline uint32_t greater(V a, V b) {
  uint32_t bits = 0;
  for (unsigned l = 0; l < sizeof(V) / sizeof(a[0]); ++l) bits |= uint32_t(a[l] > b[l]) << l;
  return bits;
}
template <class V>
inline uint32_t greater_equal(V a, V b) {
  uint32_t bits = 0;
  for (unsigned l = 0; l < sizeof(V) / sizeof(a[0]); ++l) bits |= uint32_t(a[l] >= b[l]) << l;
  return bits;
}
#endif

// The lowest `count` lanes, all of them from W on.
template <class T>
inline uint32_t first_lanes(int count) {
  return count >= W<T> ? (1u << W<T>)-1 : (1u << count) - 1;
}

namespace detail {
template <class V, int... I>
inline void interleave(V a, V b, V& low, V& high, std::integer_sequence<int, I...>) {
  constexpr int kLanes = sizeof...(I);
  low = __builtin_shufflevector(a, b, (I / 2 + (I % 2) * kLanes)...);
  high = __builtin_shufflevector(a, b, (kLanes / 2 + I / 2 + (I % 2) * kLanes)...);
}
}  // namespace detail

// Transposes W rows of W lanes: log2(W) rounds, each of which interleaves row i with row i + W/2.
template <class T>
inline void transpose(const T* source, int source_stride, T* target, int target_stride) {
  Vec<T> rows[W<T>], mixed[W<T>];
#pragma GCC unroll 16
  for (int i = 0; i < W<T>; ++i) rows[i] = load(source + i * source_stride);
#pragma GCC unroll 4
  for (int round = 1; round < W<T>; round *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < W<T> / 2; ++i) {
      detail::interleave(rows[i], rows[i + W<T> / 2], mixed[2 * i], mixed[2 * i + 1],
                         std::make_integer_sequence<int, W<T>>{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < W<T>; ++i) rows[i] = mixed[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < W<T>; ++i) store(target + i * target_stride, rows[i]);
}

}  // namespace facenet::FACENET_ISA
