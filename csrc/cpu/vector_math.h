// exp and log1p for all lanes of a vector at once, over the ranges that a softplus needs.
//
// Their relative error is a few eps over the ranges given; tests hold softplus of a loss against
// semantics/hinge.h.
#pragma once

#include "cpu/simd.h"

namespace facenet::FACENET_ISA {

template <class T>
struct MathConstants;
template <>
struct MathConstants<float> {
  static constexpr int kExpTerms = 8, kLogTerms = 8;  // remainders below eps / 4
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr float kRounding = 12582912.0f;                            // 1.5 * 2^23
  static constexpr float kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;  // High: 15 bits
  static constexpr float kLowest = -87.0f;                                   // exp is still normal
};
template <>
struct MathConstants<double> {
  static constexpr int kExpTerms = 14, kLogTerms = 17;
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr double kRounding = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLowest = -708.0;
};

// Lanes of `x` where `lanes` is all ones, 0 elsewhere.
template <class T>
inline Vec<T> where(Index<T> lanes, Vec<T> x) {
  return (Vec<T>)(lanes & (Index<T>)x);
}

// exp(x) for x <= 0; 0 below kLowest. 2^n exp(r) with r = x - n ln 2, |r| <= ln 2 / 2.
template <class T>
inline Vec<T> exp_of_negative(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> shifted = x * T(1.4426950408889634074) + C::kRounding;
  const Vec<T> n = shifted - C::kRounding;
  const Vec<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
  Vec<T> sum = broadcast(T(1));
#pragma GCC unroll 16
  for (int k = C::kExpTerms - 1; k >= 1; --k) sum = sum * r * T(1.0 / k) + T(1);
  const Index<T> exponent = __builtin_convertvector(n, Index<T>) + C::kExponentBias;
  return where<T>((Index<T>)(x > C::kLowest), sum * (Vec<T>)(exponent << C::kMantissaBits));
}

// log(1 + x) for 0 <= x <= 1: 2 atanh(s), s = x / (2 + x) <= 1/3.
template <class T>
inline Vec<T> log1p_of_fraction(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> s = x / (x + T(2)), square = s * s;
  Vec<T> sum = broadcast(T(2.0 / (2 * C::kLogTerms - 1)));
#pragma GCC unroll 20
  for (int k = C::kLogTerms - 2; k >= 0; --k) sum = sum * square + T(2.0 / (2 * k + 1));
  return s * sum;
}

// hinge(v, true) and hinge_slope(v, true) of semantics/hinge.h, from one exponential.
template <class T>
inline void softplus(Vec<T> v, Vec<T>& value, Vec<T>& slope) {
  const Index<T> positive = (Index<T>)(v > T(0));
  const Vec<T> above = where<T>(positive, v);
  const Vec<T> e = exp_of_negative<T>(v - above - above);  // of -|v|
  const Vec<T> share = T(1) / (e + T(1));
  value = above + log1p_of_fraction<T>(e);
  slope = where<T>(positive, share) + where<T>(~positive, e * share);
}

template <class T>
inline T sum_lanes(Vec<T> v) {
  T total = 0;
  for (int l = 0; l < W<T>; ++l) total += v[l];
  return total;
}

}  // namespace facenet::FACENET_ISA
