// Vectors of the instruction set this translation unit is compiled for.
//
// Arithmetic uses the vector extension of g++ and clang. Intrinsics serve only what the extension
// lacks: comparisons as bit masks, permutations and gathers. `W` lanes of `T` fill
// one register; an `Index` has an integer of T's size in each lane.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
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
  typedef int32_t index __attribute__((vector_size(kVectorBytes)));
  typedef double doubles __attribute__((vector_size(2 * kVectorBytes)));
  typedef uint32_t bits __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t index __attribute__((vector_size(kVectorBytes)));
  typedef type doubles;
  typedef uint64_t bits __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Index = typename VectorOf<T>::index;
template <class T>
using Bits = typename VectorOf<T>::bits;  // of numbers, as integers without a sign
template <class T>
using Doubles = typename VectorOf<T>::doubles;  // one for each lane

template <class T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline Index<T> load_index(const void* p) {
  Index<T> v;
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

template <class T>
inline Doubles<T> doubles(Vec<T> x) {
  return __builtin_convertvector(x, Doubles<T>);
}

template <class T>
inline Index<T> index(int value) {
  return value - Index<T>{};
}

template <class T>
inline Index<T> lane_numbers() {
  Index<T> lanes{};
  for (int l = 0; l < W<T>; ++l) lanes[l] = l;
  return lanes;
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

// A register of 32-bit words.
typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
inline constexpr int kWords = W<float>;

inline uint32_t less_equal(Words a, Words b) {
#if defined(__AVX512F__)
  return _mm512_cmple_epu32_mask((__m512i)a, (__m512i)b);
#else
  const auto lanes = (VectorOf<float>::index)(a <= b);
#if defined(__AVX2__)
  return _mm256_movemask_ps((__m256)lanes);
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)lanes);
#else
  uint32_t bits = 0;
  for (int l = 0; l < kWords; ++l) bits |= uint32_t(lanes[l] & 1) << l;
  return bits;
#endif
#endif
}

// A mask of the lowest `count` lanes of a vector or group, count >= 1.
inline uint64_t first_lanes(int count) {
  return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1;
}

// low < x <= high
template <class T>
inline uint32_t inside(Vec<T> x, Vec<T> low, Vec<T> high) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return _mm512_mask_cmp_ps_mask(__mmask16(greater(x, low)), (__m512)x, (__m512)high, _CMP_LE_OQ);
  } else {
    return _mm512_mask_cmp_pd_mask(__mmask8(greater(x, low)), (__m512d)x, (__m512d)high,
                                   _CMP_LE_OQ);
  }
#else
  return greater(x, low) & greater_equal(high, x);
#endif
}

// Vectors that are tested together, for one branch on the outcome: 48 floats on AVX-512 and AVX2.
inline constexpr int kGroup = kVectorBytes == 64 ? 3 : 6;

// The lanes of some vectors as one mask.
template <class T, int kVectors>
inline uint64_t join(const uint32_t (&lanes)[kVectors]) {
  uint64_t all = lanes[0];
#pragma GCC unroll 6
  for (int v = 1; v < kVectors; ++v) all |= uint64_t(lanes[v]) << v * W<T>;
  return all;
}

#if defined(__AVX512F__)
// Lane l of the result: a[i[l]], or of a and b one after the other.
inline Vec<float> pick(Vec<float> a, Index<float> i) {
  return (Vec<float>)_mm512_permutexvar_ps((__m512i)i, (__m512)a);
}
inline Vec<double> pick(Vec<double> a, Index<double> i) {
  return (Vec<double>)_mm512_permutexvar_pd((__m512i)i, (__m512d)a);
}
inline Vec<float> pick(Vec<float> a, Vec<float> b, Index<float> i) {
  return (Vec<float>)_mm512_permutex2var_ps((__m512)a, (__m512i)i, (__m512)b);
}
inline Vec<double> pick(Vec<double> a, Vec<double> b, Index<double> i) {
  return (Vec<double>)_mm512_permutex2var_pd((__m512d)a, (__m512i)i, (__m512d)b);
}
inline Vec<float> choose(uint32_t lanes, Vec<float> yes, Vec<float> no) {
  return (Vec<float>)_mm512_mask_mov_ps((__m512)no, __mmask16(lanes), (__m512)yes);
}
inline Vec<double> choose(uint32_t lanes, Vec<double> yes, Vec<double> no) {
  return (Vec<double>)_mm512_mask_mov_pd((__m512d)no, __mmask8(lanes), (__m512d)yes);
}
inline uint32_t any_bit(Index<float> a, Index<float> b) {
  return _mm512_test_epi32_mask((__m512i)a, (__m512i)b);
}
inline uint32_t any_bit(Index<double> a, Index<double> b) {
  return _mm512_test_epi64_mask((__m512i)a, (__m512i)b);
}
inline Vec<float> gather(const float* base, Index<float> i) {
  return (Vec<float>)_mm512_i32gather_ps((__m512i)i, base, 4);
}
inline Vec<double> gather(const double* base, Index<double> i) {
  return (Vec<double>)_mm512_i64gather_pd((__m512i)i, base, 8);
}
#elif defined(__AVX2__)
inline Vec<float> pick(Vec<float> a, Index<float> i) {
  return (Vec<float>)_mm256_permutevar8x32_ps((__m256)a, (__m256i)i);
}
inline Vec<float> gather(const float* base, Index<float> i) {
  return (Vec<float>)_mm256_i32gather_ps(base, (__m256i)i, 4);
}
inline Vec<double> gather(const double* base, Index<double> i) {
  return (Vec<double>)_mm256_i64gather_pd(base, (__m256i)i, 8);
}
#else
template <class T>
inline Vec<T> gather(const T* base, Index<T> i) {
  Vec<T> v{};
  for (int l = 0; l < W<T>; ++l) v[l] = base[i[l]];
  return v;
}
#endif

// Whether a register can be indexed per lane.
template <class T>
inline constexpr bool kCanPick =
    kVectorBytes == 64 || (kVectorBytes == 32 && std::is_same_v<T, float>);

// i + step in the lanes where x > value, or with kOrEqual x >= value.
template <bool kOrEqual, class T>
inline Index<T> add_where_above(Index<T> i, Vec<T> x, Vec<T> value, int step) {
#if defined(__AVX512F__)
  const uint32_t lanes = kOrEqual ? greater_equal(x, value) : greater(x, value);
  if constexpr (std::is_same_v<T, float>) {
    return (Index<T>)_mm512_mask_add_epi32((__m512i)i, __mmask16(lanes), (__m512i)i,
                                           (__m512i)index<T>(step));
  } else {
    return (Index<T>)_mm512_mask_add_epi64((__m512i)i, __mmask8(lanes), (__m512i)i,
                                           (__m512i)index<T>(step));
  }
#else
  return i + ((kOrEqual ? (Index<T>)(x >= value) : (Index<T>)(x > value)) & index<T>(step));
#endif
}

// The lanes of a comparison, as the instruction set likes to keep them.
#if defined(__AVX512F__)
template <class T>
using Lanes = uint32_t;
#else
template <class T>
using Lanes = Index<T>;
#endif

// x >= value
template <class T>
inline Lanes<T> at_least(Vec<T> x, Vec<T> value) {
#if defined(__AVX512F__)
  return greater_equal(x, value);
#else
  return (Index<T>)(x >= value);
#endif
}

// The lanes where a and b differ.
template <class T>
inline uint32_t different(Bits<T> a, Bits<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return _mm512_cmpneq_epi32_mask((__m512i)a, (__m512i)b);
  } else {
    return _mm512_cmpneq_epi64_mask((__m512i)a, (__m512i)b);
  }
#elif defined(__AVX2__)
  const auto same = a == b;
  return sizeof(T) == 4 ? ~_mm256_movemask_ps((__m256)same) & 0xff
                        : ~_mm256_movemask_pd((__m256d)same) & 0xf;
#elif defined(__SSE2__)
  const auto same = a == b;
  return sizeof(T) == 4 ? ~_mm_movemask_ps((__m128)same) & 0xf
                        : ~_mm_movemask_pd((__m128d)same) & 0x3;
#else
  uint32_t lanes = 0;
  for (int l = 0; l < W<T>; ++l) lanes |= uint32_t(a[l] != b[l]) << l;
  return lanes;
#endif
}

// count + 1 in the given lanes.
template <class T>
inline Index<T> add_one(Index<T> count, Lanes<T> lanes) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return (Index<T>)_mm512_mask_sub_epi32((__m512i)count, __mmask16(lanes), (__m512i)count,
                                           _mm512_set1_epi32(-1));
  } else {
    return (Index<T>)_mm512_mask_sub_epi64((__m512i)count, __mmask8(lanes), (__m512i)count,
                                           _mm512_set1_epi64(-1));
  }
#else
  return count - lanes;
#endif
}

// Stores the chosen lanes one after the other, with up to W entries of scratch behind them;
// returns how many.
template <class T, class Entry>
inline int store_lanes(Entry* to, Index<T> values, uint32_t lanes) {
  static_assert(sizeof(Entry) == sizeof(T));
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(__mmask16(lanes), (__m512i)values));
  } else {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(__mmask8(lanes), (__m512i)values));
  }
  return __builtin_popcount(lanes);
#else
  int count = 0;
  for (int l = 0; l < W<T>; ++l) {
    to[count] = Entry(values[l]);
    count += int(lanes >> l & 1);
  }
  return count;
#endif
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
