// Conversions of float16 and bfloat16 bits, to nearest with ties to even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace facenet::emulation {

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bfloat16_to_float(uint16_t bits) { return bits_to_float(uint32_t(bits) << 16); }

inline uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = float_to_bits(value);
  if (value != value) return 0x7fff;
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  float magnitude;
  if (exponent == 31)
    magnitude = mantissa != 0 ? bits_to_float(0x7fffffff) : bits_to_float(0x7f800000);
  else if (exponent == 0)
    magnitude = std::ldexp(float(mantissa), -24);
  else
    magnitude = bits_to_float(uint32_t(exponent + 112) << 23 | uint32_t(mantissa) << 13);
  return bits & 0x8000 ? -magnitude : magnitude;
}

inline uint16_t float_to_half(float value) {
  const uint16_t sign = uint16_t(float_to_bits(value) >> 16 & 0x8000);
  const uint32_t bits = float_to_bits(value) & 0x7fffffff;
  if (bits > 0x7f800000) return 0x7fff;
  if (bits >= 0x477ff000) return sign | 0x7c00;  // rounds to 2^16 or is beyond
  if (bits < 0x38800000)                         // below 2^-14: a multiple of 2^-24
    return sign | uint16_t(std::nearbyint(std::ldexp(bits_to_float(bits), 24)));
  const uint32_t rounded = bits + 0xfff + (bits >> 13 & 1);
  return sign | uint16_t((rounded >> 13) - (112u << 10));
}

}  // namespace facenet::emulation
