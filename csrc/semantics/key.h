// order.h's contests as one unsigned comparison: of two keys the smaller wins.
//
// A distance is never negative, so the bits of a float32 ascend with it and the index below them
// settles ties. An atomic minimum of keys then gives the same winner in every order of arrival.
#pragma once

#include <cstring>

#include "semantics/portable.h"

namespace facenet {

constexpr uint64_t kNoKey = ~uint64_t(0);  // beaten by everything

FACENET_HD uint32_t bits_of(float d) {
  uint32_t bits;
  std::memcpy(&bits, &d, sizeof bits);
  return bits;
}

FACENET_HD uint64_t bits_of(double d) {
  uint64_t bits;
  std::memcpy(&bits, &d, sizeof bits);
  return bits;
}

FACENET_HD float value_of(uint32_t bits) {
  float d;
  std::memcpy(&d, &bits, sizeof d);
  return d;
}

FACENET_HD double value_of(uint64_t bits) {
  double d;
  std::memcpy(&d, &bits, sizeof d);
  return d;
}

// d >= 0, not NaN. The index is one in the caller's order.
FACENET_HD uint64_t closer_key(float d, uint32_t index) {
  return uint64_t(bits_of(d)) << 32 | index;
}

FACENET_HD uint64_t farther_key(float d, uint32_t index) {
  return uint64_t(~bits_of(d)) << 32 | index;
}

FACENET_HD uint32_t key_index(uint64_t key) { return uint32_t(key); }
FACENET_HD float closer_key_distance(uint64_t key) { return value_of(uint32_t(key >> 32)); }
FACENET_HD float farther_key_distance(uint64_t key) { return value_of(~uint32_t(key >> 32)); }

// Of doubles the distance alone is a word. The sign, which is never set, stays as it is: all ones
// would be no word of a distance of 0, but kNoKey.
FACENET_HD uint64_t farther_word(double d) { return bits_of(d) ^ ~uint64_t(0) >> 1; }
FACENET_HD double farther_word_distance(uint64_t word) {
  return value_of(word ^ ~uint64_t(0) >> 1);
}

// The distance beyond a threshold, modulo 2^32: bits(d) - bits(t) - 1. It is below 2^31 for d > t
// and not for d <= t, and ascends with d, so that the strict successor of t has the smallest.
FACENET_HD uint32_t successor_offset(float threshold) { return ~bits_of(threshold); }
FACENET_HD uint32_t beyond(float d, float threshold) {
  return bits_of(d) + successor_offset(threshold);
}

}  // namespace facenet
