// A binary search whose table lives in vector registers (AVX-512).
//
// A gather from memory costs an access per lane and round; a permutation of registers costs one
// or two instructions for all lanes. Against the gather this halved the successor epilogue at 39
// thresholds; against a test of every threshold it is 4 times fewer instructions there.
#pragma once

#include "cpu/pair_stream.h"
#include "cpu/simd.h"

#if defined(__AVX512F__)

namespace facenet::FACENET_ISA {

// The few operations of 32-bit and 64-bit lanes that the search is made of.
inline __m512i lanes_of(float, int value) { return _mm512_set1_epi32(value); }
inline __m512i lanes_of(double, int value) { return _mm512_set1_epi64(value); }
inline __m512i lane_numbers(float) {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline __m512i lane_numbers(double) { return _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7); }
inline __m512i plus(float, __m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
inline __m512i plus(double, __m512i a, __m512i b) { return _mm512_add_epi64(a, b); }
inline __m512i shift_left(float, __m512i a, int bits) { return _mm512_slli_epi32(a, bits); }
inline __m512i shift_left(double, __m512i a, int bits) { return _mm512_slli_epi64(a, bits); }
inline __m512i plus_where(float, uint32_t m, __m512i a, __m512i b) {
  return _mm512_mask_add_epi32(a, __mmask16(m), a, b);
}
inline __m512i plus_where(double, uint32_t m, __m512i a, __m512i b) {
  return _mm512_mask_add_epi64(a, __mmask8(m), a, b);
}
inline uint32_t any_bit(float, __m512i a, __m512i b) { return _mm512_test_epi32_mask(a, b); }
inline uint32_t any_bit(double, __m512i a, __m512i b) { return _mm512_test_epi64_mask(a, b); }
inline __m512i compress(float, uint32_t m, __m512i a) {
  return _mm512_maskz_compress_epi32(__mmask16(m), a);
}
inline __m512i compress(double, uint32_t m, __m512i a) {
  return _mm512_maskz_compress_epi64(__mmask8(m), a);
}
// Lane i of the result: a[index[i]], or of a and b one after the other.
inline Vec<float> pick(Vec<float> a, __m512i index) {
  return (Vec<float>)_mm512_permutexvar_ps(index, (__m512)a);
}
inline Vec<double> pick(Vec<double> a, __m512i index) {
  return (Vec<double>)_mm512_permutexvar_pd(index, (__m512d)a);
}
inline Vec<float> pick(Vec<float> a, Vec<float> b, __m512i index) {
  return (Vec<float>)_mm512_permutex2var_ps((__m512)a, index, (__m512)b);
}
inline Vec<double> pick(Vec<double> a, Vec<double> b, __m512i index) {
  return (Vec<double>)_mm512_permutex2var_pd((__m512d)a, index, (__m512d)b);
}
inline Vec<float> choose(uint32_t m, Vec<float> yes, Vec<float> no) {
  return (Vec<float>)_mm512_mask_mov_ps((__m512)no, __mmask16(m), (__m512)yes);
}
inline Vec<double> choose(uint32_t m, Vec<double> yes, Vec<double> no) {
  return (Vec<double>)_mm512_mask_mov_pd((__m512d)no, __mmask8(m), (__m512d)yes);
}

// kRegisters * W values, looked up per lane.
template <class T, int kRegisters>
struct RegisterTable {
  Vec<T> part[kRegisters];

  explicit RegisterTable(const T* values) {
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) part[i] = load(values + i * W<T>);
  }
  Vec<T> operator[](__m512i index) const {
    if constexpr (kRegisters == 1) return pick(part[0], index);
    if constexpr (kRegisters == 2) return pick(part[0], part[1], index);
    if constexpr (kRegisters == 4) {
      const uint32_t upper = any_bit(T(), index, lanes_of(T(), 2 * W<T>));
      return choose(upper, pick(part[2], part[3], index), pick(part[0], part[1], index));
    }
  }
  // Every kRegisters-th value, from the first: W of them.
  Vec<T> every() const {
    const __m512i numbers = lane_numbers(T());
    if constexpr (kRegisters == 1) return part[0];
    if constexpr (kRegisters == 2) {
      return pick(part[0], part[1], shift_left(T(), numbers, 1));
    }
    if constexpr (kRegisters == 4) {
      const __m512i fourth = shift_left(T(), numbers, 2);  // bits past the tables are not read
      return choose(0xffffffffu << (W<T> / 2), pick(part[2], part[3], fourth),
                    pick(part[0], part[1], fourth));
    }
  }
};

// The last index whose value is below x, in ascending values of which the first is: W of them are
// searched in one register, kRegisters around the place found in the whole table.
template <class T, int kRegisters>
inline __m512i last_below(const RegisterTable<T, kRegisters>& table, Vec<T> coarse, Vec<T> x) {
  __m512i k = lanes_of(T(), 0);
#pragma GCC unroll 4
  for (int step = W<T> / 2; step >= 1; step /= 2) {
    const __m512i steps = lanes_of(T(), step);
    k = plus_where(T(), greater(x, pick(coarse, plus(T(), k, steps))), k, steps);
  }
  if constexpr (kRegisters > 1) {
    k = shift_left(T(), k, kRegisters == 2 ? 1 : 2);
#pragma GCC unroll 2
    for (int step = kRegisters / 2; step >= 1; step /= 2) {
      const __m512i steps = lanes_of(T(), step);
      k = plus_where(T(), greater(x, table[plus(T(), k, steps)]), k, steps);
    }
  }
  return k;
}

// Pairs of a tile that improve their bucket, queued and settled once per tile: a branch on "any
// in this vector?" is unpredictable, and waiting for it would serialise the searches (measured:
// a branch per row made the epilogue 1.5 times as long).
template <class T>
struct Improvements {
  using Entry = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  alignas(64) Entry entry[kPanel * kPanel + W<T>];  // column, row, bucket: 8 bits each
  int size = 0;

  int column(int e) const { return int(entry[e] & 0xff); }
  int row(int e) const { return int((entry[e] >> 8) & 0xff); }
  int bucket(int e) const { return int(entry[e] >> 16); }
};

template <class T, int kRegisters>
inline void find_improvements(const T* t, const T* best, int count, const T* d, int row, int column,
                              Improvements<T>& found) {
  const RegisterTable<T, kRegisters> thresholds(t), bests(best);
  const Vec<T> coarse = thresholds.every(), lowest = broadcast(t[0]);
  __m512i place = plus(T(), lane_numbers(T()), lanes_of(T(), column + (row << 8)));
  for (int at = 0; at < count; at += W<T>) {
    const Vec<T> x = load(d + at);
    const __m512i k = last_below(thresholds, coarse, x);
    const uint32_t lanes =
        greater(x, lowest) & greater_equal(bests[k], x) & first_lanes<T>(count - at);
    const __m512i entries = compress(T(), lanes, plus(T(), place, shift_left(T(), k, 16)));
    _mm512_storeu_si512(found.entry + found.size, entries);
    found.size += __builtin_popcount(lanes);
    place = plus(T(), place, lanes_of(T(), W<T>));
  }
}

}  // namespace facenet::FACENET_ISA

#endif
