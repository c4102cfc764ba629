// random: a negative drawn for each of an anchor's positives. What is drawn: semantics/random.h.
//
// Draws take P x N steps per anchor, so a step has few instructions for a register of candidates.
// It is a test that nearly all candidates fail: of N candidates about ln N improve on those before.
// Those that pass are settled one by one. A group of candidates stays in registers for all
// positives.
#pragma once

#include "cpu/pair_stream.h"
#include "semantics/random.h"

namespace facenet::FACENET_ISA {

// Candidates that are tested together: the group of vectors that TileRanges allows to read. For
// double a group of distances is shorter than its words; the words beyond it are masked.
inline constexpr int kDrawGroup = 3;
template <class T>
inline constexpr int kDrawLanes = kDrawGroup * W<T>;
template <class T>
inline constexpr int kDrawVectors = (kDrawLanes<T> + kWords - 1) / kWords;

// The group of candidates at hand: their words, and their distances in the row of a tile.
template <class T>
struct DrawGroup {
  Words word[kDrawVectors<T>];
  const T* d;

  template <class F>
  uint64_t lanes_where(F&& f) const {
    uint64_t lanes = 0;
#pragma GCC unroll 3
    for (int v = 0; v < kDrawVectors<T>; ++v) lanes |= uint64_t(f(v)) << (v * kWords);
    return lanes;
  }
};

// The uniform rules: every negative in an interval is equally likely.
template <class T>
struct UniformDraws {
  const RandomNegatives<T>& to;
  DrawGroup<T> group;

  void begin(Distance) {}

  uint64_t ahead(int64_t slot, Words positive) const {
    const Interval<T> in = qualifying(to.semihard, to.d_ap[slot], to.margin);
    const Vec<T> low = broadcast(in.low), high = broadcast(in.high);
    const Words best = Words{} + uint32_t(to.key[slot] >> 32);
    uint32_t inside[kDrawGroup];
#pragma GCC unroll 3
    for (int v = 0; v < kDrawGroup; ++v) {
      const Vec<T> x = load(group.d + v * W<T>);
      inside[v] = greater(x, low) & greater(high, x);
    }
    return join<T>(inside) & group.lanes_where([&](int v) {
      return less_equal(draw(group.word[v], positive), best);
    });
  }

  uint32_t priority(int64_t, int, uint32_t drawn) const { return drawn; }
};

inline Vec<float> draw_bits(Words drawn) {
  const Vec<float> half = __builtin_convertvector((Index<float>)(drawn >> 1), Vec<float>);
  return __builtin_convertvector((Index<float>)half, Vec<float>);
}

// The weighted rule: negatives up to a distance, by their weights.
template <class T>
struct WeightedDraws {
  const RandomNegatives<T>& to;
  DrawGroup<T> group;
  alignas(64) float log_weight[kDrawVectors<T> * kWords];
  alignas(64) float allowance[kDrawVectors<T> * kWords];

  void begin(Distance kind) {
    const DistanceWeights weights = to.weights;
    float d[kDrawLanes<T>];
    for (int l = 0; l < kDrawLanes<T>; ++l) d[l] = euclidean(kind, group.d[l]);
    for (int l = 0; l < kDrawLanes<T>; ++l) log_weight[l] = facenet::log_weight(d[l], weights);
    for (int l = 0; l < kDrawLanes<T>; ++l) {
      log_weight[l] = d[l] < weights.beyond ? log_weight[l] : -INFINITY;
      allowance[l] = score_allowance(log_weight[l]);
    }
  }

  uint64_t ahead(int64_t slot, Words positive) const {
    if (to.d_ap[slot] != to.d_ap[slot]) return 0;
    const Vec<float> best = broadcast(priority_score(uint32_t(to.key[slot] >> 32)));
    return group.lanes_where([&](int v) {
      const Words drawn = draw(group.word[v], positive);
      return greater(score_bound(load(allowance + v * kWords), draw_bits(drawn)), best);
    });
  }

  uint32_t priority(int64_t slot, int lane, uint32_t drawn) const {
    const float best = priority_score(uint32_t(to.key[slot] >> 32));
    if (!(score_bound(allowance[lane], facenet::draw_bits(drawn)) > best)) return ~0u;
    return score_priority(race_score(log_weight[lane], drawn));
  }
};

template <class T, class Draws>
struct RandomEpilogue {
  static constexpr Which kWhich = Which::kNegatives;
  static constexpr bool kByCandidate = false;
  const Pairs<T>& pairs;
  const RandomNegatives<T>& to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    const int64_t first_candidate = ranges.first_candidate();
    const int64_t there = std::min<int64_t>(kPanel, pairs.candidates.rows - first_candidate);
    alignas(64) uint32_t rows[2 * kPanel] =
        {};  // the caller's; padded, since a group may begin at the last one
    for (int64_t c = 0; c < there; ++c)
      rows[c] = uint32_t(pairs.candidate_order[first_candidate + c]);
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      for (int at = 0; at < count && to.count[anchor] > 0; at += kDrawLanes<T>) {
        const uint64_t lanes = first_lanes(std::min(count - at, kDrawLanes<T>));
        consume_group(anchor, first + at, lanes, d + at, rows + (first - first_candidate) + at);
      }
    });
  }

  void consume_group(int64_t anchor, int64_t first, uint64_t lanes, const T* d,
                     const uint32_t* rows) {
    Draws draws{to, {{}, d}};
    alignas(64) uint32_t word[kDrawVectors<T> * kWords];
    for (int v = 0; v < kDrawVectors<T>; ++v) {
      Words row;
      std::memcpy(&row, rows + v * kWords, sizeof row);
      draws.group.word[v] = row_word(to.anchor_word[anchor], row);
      std::memcpy(word + v * kWords, &draws.group.word[v], sizeof row);
    }
    draws.begin(pairs.distance);
    const int64_t begin = to.offset[anchor], end = begin + to.count[anchor];
    for (int64_t slot = begin; slot < end; ++slot) {
      const uint32_t positive = to.positive_word[slot];
      uint64_t ahead = draws.ahead(slot, Words{} + positive) & lanes;
      for (; __builtin_expect(ahead != 0, 0); ahead &= ahead - 1) {
        const int l = __builtin_ctzll(ahead);
        const uint32_t priority = draws.priority(slot, l, draw(word[l], positive));
        const uint64_t key = random_key(priority, rows[l]);
        if (key >= to.key[slot]) continue;
        to.key[slot] = key;
        to.index[slot] = int32_t(first + l);
        to.distance[slot] = d[l];
      }
    }
  }
};

}  // namespace facenet::FACENET_ISA
