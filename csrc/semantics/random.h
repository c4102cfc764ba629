// What the random rules draw, and which negatives they draw from.
//
// A draw is a hash of the seed and of the caller's rows of anchor, positive and negative. It has no
// state, so no thread, tile, order or chunk changes it. Among the negatives that qualify the
// smallest *priority* wins, and the lowest row among equals. The key of key.h holds both in one
// word:
//
//   priority << 32 | row
//
//   uniform    the priority is the draw. For each (anchor, positive) the draws permute the words.
//              So no two negatives have the same draw, and each is the smallest equally often.
//   weighted   an exponential race. With u the draw in (0, 1), E = -log(1 - u) is exponential and
//              E / w is smallest for each n with a probability in proportion to its weight w_n. The
//              priority is the score log w - log E in float32, mapped to a word that descends.
#pragma once

#include <cmath>

#include "semantics/distance.h"
#include "semantics/key.h"

namespace facenet {

// --- draws ---------------------------------------------------------------------------------------

// One step of SplitMix64 (Steele, Lea, Flood 2014).
FACENET_HD uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// The inner half of a 32-bit finaliser with Wellons' constants. It is enough for a word that is
// random already. Word is an integer or a vector of them. This and mix32 are bijections.
template <class Word>
FACENET_HD Word scramble(Word x) {
  x *= 0x7feb352du;
  x ^= x >> 15;
  return x * 0x846ca68bu;
}

template <class Word>
FACENET_HD Word mix32(Word x) {
  x = scramble(x ^ x >> 16);
  return x ^ x >> 16;
}

// The words that all draws of one anchor share.
struct AnchorWords {
  uint32_t positives, negatives;
};

FACENET_HD AnchorWords anchor_words(uint64_t seed, uint32_t anchor) {
  const uint64_t word = mix64(mix64(seed) + anchor);
  return {uint32_t(word >> 32), uint32_t(word)};
}

// What a random rule draws from, in the memory of the embeddings.
struct Seed {
  const int64_t* number;       // [1]; null: the rule is not random
  const int64_t* anchor_rows;  // [M] the row of each anchor in the whole batch; null: as they are
};

FACENET_HD AnchorWords anchor_words(const Seed& seed, uint32_t anchor) {
  const uint32_t row = seed.anchor_rows ? uint32_t(seed.anchor_rows[anchor]) : anchor;
  return anchor_words(uint64_t(*seed.number), row);
}

// The word of a positive or a negative: from its row in the caller's order and the anchor's word.
template <class Word>
FACENET_HD Word row_word(uint32_t anchor_word, Word row) {
  return mix32(row + anchor_word);
}

// The draw of a triplet, from the words of its positive and negative. It runs N^2 P times.
template <class Word>
FACENET_HD Word draw(Word negative, Word positive) {
  return scramble(negative ^ positive);
}

// --- uniform rules -------------------------------------------------------------------------------

// A negative qualifies where low < d(a, n) < high. NaN qualifies for nothing.
template <class T>
struct Interval {
  T low, high;
};

template <class T>
FACENET_HD Interval<T> qualifying(bool semihard, T d_ap, T margin) {
  return {semihard ? d_ap : T(-INFINITY), d_ap + margin};
}

// --- the weighted rule ---------------------------------------------------------------------------

// log x for x > 0, not subnormal, within 2 units of the last place; about -88 for 0. Without
// branches, for a loop of them to become vectors.
//
// x = 2^k m with m in [2/3, 4/3): log x = k log 2 + log m, log m = 2 atanh(s), s = (m-1) / (m+1).
FACENET_HD float natural_log(float x) {
  const uint32_t bits = bits_of(x) - 0x3f2aaaabu;
  const float k = float(int32_t(bits) >> 23);
  const float m = value_of((bits & 0x007fffffu) + 0x3f2aaaabu);
  const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
  const float series = z * (0.66666936f + z * (0.39959737f + z * 0.30311162f));
  return k * 0.693359375f + (2.0f * s + (s * series + k * -2.12194440e-4f));
}

struct DistanceWeights {
  float cutoff;  // closer negatives weigh as if they were this far away
  float beyond;  // negatives from here on do not take part; above the cutoff, at most 2
  float dim;     // of the embeddings
};

// The Euclidean distance of two rows, or of the normalised rows for the cosine, always in float32.
template <class T>
FACENET_HD float euclidean(Distance kind, T distance) {
  const float d = float(distance);
  if (kind == Distance::kEuclidean) return d;
  return std::sqrt(kind == Distance::kCosine ? 2.0f * d : d);
}

// log of 1 / q(d) for d < beyond, q the density of distances of two random points on a sphere:
//   log q(d) = (dim - 2) log d + (dim - 3)/2 log(1 - d^2/4)
// All other negatives, NaN too, do not take part: minus infinity stands for their weight.
FACENET_HD float log_weight(float d, const DistanceWeights& weights) {
  d = d < weights.cutoff ? weights.cutoff : d;
  return (2.0f - weights.dim) * natural_log(d) -
         0.5f * (weights.dim - 3.0f) * natural_log(1.0f - 0.25f * d * d);
}

// log w - log E.
FACENET_HD float race_score(float log_weight, uint32_t draw) {
  const float u = (float(draw) + 0.5f) * 0x1p-32f, rest = 1.0f - u;
  // The quotient makes up for what 1 - u was rounded by.
  const float e = rest == 1.0f ? u : natural_log(rest) * (u / (rest - 1.0f));
  return log_weight - natural_log(e);
}

// An upper bound of the score in a few instructions: E >= u, and the bits of a float as a number
// are a logarithm that is nowhere above the true one. The allowance makes up for all rounding. It
// is NaN if the negative does not take part, and NaN is greater than nothing.
FACENET_HD float score_allowance(float log_weight) {
  return log_weight + (1e-4f + 1e-6f * std::abs(log_weight));
}
// `bits`: of half the draw as a float, as a number.
FACENET_HD float draw_bits(uint32_t draw) {
  return float(int32_t(bits_of(float(int32_t(draw >> 1)))));
}
template <class Floats>
FACENET_HD Floats score_bound(Floats allowance, Floats bits) {
  return allowance - (bits * 0x1p-23f - 158.0f) * 0.69314718f;
}

// The larger the score, the smaller the priority.
FACENET_HD uint32_t score_priority(float score) {
  const uint32_t bits = bits_of(score);
  return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}
// Minus infinity for the priority of kNoKey.
FACENET_HD float priority_score(uint32_t priority) {
  if (priority == ~0u) return -INFINITY;
  return value_of(priority >> 31 ? priority : ~priority & 0x7fffffffu);
}

FACENET_HD uint64_t random_key(uint32_t priority, uint32_t row) {
  return uint64_t(priority) << 32 | row;
}

}  // namespace facenet
