// What a warp does for its anchor before and after the search: thresholds, and choices.
#pragma once

#include "cuda/selection.h"
#include "cuda/slots.cuh"
#include "cuda/warp.cuh"
#include "semantics/successor.h"

namespace facenet::cuda {

// By a warp, all arrays those of its anchor: its positive distances in ascending order are its
// thresholds. Returns the number of its buckets.
//   d_ap [count] -> rank [count]: that of the slot's threshold, else kNotSelected or kFarthest;
//                   threshold [buckets], where the rule is semi-hard
// kTogether of them lie together, aligned, and are filled up with NaN.
template <int kTogether = 1, class T>
__device__ int32_t rank_positives(const Pairs<T>& pairs, int32_t anchor, const TripletRule& rule,
                                  int32_t count, const T* d_ap, int32_t* ranks, T* threshold) {
  const bool all = rule.positives == PositiveRule::kAll;
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  const int32_t only =
      all ? -1 : extreme_slot(d_ap, count, rule.positives == PositiveRule::kHardest);
  constexpr int kEach = 2;  // slots that a lane ranks together
  int32_t thresholds = 0;
#pragma unroll 1
  for (int32_t base = 0; base < count; base += 32 * kEach) {
    T d[kEach];
    float less[kEach] = {}, equal[kEach] = {};  // counts: one instruction makes a 1 of a comparison
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      const int32_t k = base + 32 * v + lane();
      d[v] = k < count ? d_ap[k] : T(NAN);
    }
    if (all && semihard) {
#pragma unroll(4 / kTogether)
      for (int32_t m = 0; m < count; m += kTogether) {
        const Several<T, kTogether> other = load_several<kTogether>(d_ap + m);
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
#pragma unroll
          for (int v = 0; v < kEach; ++v) {
            less[v] += other.x[n] < d[v] ? 1.0f : 0.0f;
            equal[v] += other.x[n] == d[v] ? 1.0f : 0.0f;
          }
        }
      }
    }
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      const int32_t k = base + 32 * v + lane();
      int32_t rank = int32_t(less[v]);
#pragma unroll 1
      for (int32_t m = 0; equal[v] > 1 && m < k; ++m) rank += d_ap[m] == d[v];
      const bool there = k < count, counts = d[v] == d[v] && (all || k == only);
      if (!counts) {
        // A distance that compares with nothing: the fallback decides.
        const bool falls_back =
            there && d[v] != d[v] && all && !pairs.excluded(anchor, pairs.class_begin[anchor] + k);
        rank = falls_back ? kFarthest : kNotSelected;
      }
      if (there) ranks[k] = rank;
      if (counts && semihard) threshold[rank] = d[v];
      thresholds += __popc(__ballot_sync(kAllLanes, counts));
    }
  }
  // The closest negative is the same for every positive: one bucket for all.
  return rule.negatives == NegativeRule::kHardest && thresholds > 0 ? 1 : thresholds;
}

// The smallest of the words of the lanes behind this one, and of `later`.
__device__ inline uint64_t smallest_behind(uint64_t word, uint64_t later) {
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const uint64_t other = __shfl_down_sync(kAllLanes, word, apart);
    if (lane() + apart < 32 && other < word) word = other;
  }
  const uint64_t behind = __shfl_down_sync(kAllLanes, word, 1);
  return lane() < 31 && behind < later ? behind : later;
}

// By a warp, all arrays those of its anchor: a slot chooses the closest winner of the buckets from
// its threshold's on, or what the fallback says.
//   d_ap [count], bucket [buckets], ranks (in `choice`) [count] -> winning_bucket [buckets]: that
//   of the closest winner from each bucket on; choice [count]
// kOrdered: no winner is as close as that of an earlier bucket. Returns whether a slot of this lane
// takes the farthest.
template <bool kOrdered = false, class T>
__device__ bool choose_buckets(const TripletRule& rule, T margin, int32_t count, const T* d_ap,
                               int32_t buckets, const Winners<T>& bucket, bool has_farthest,
                               int32_t* winning_bucket, int32_t* choice) {
  // 32 buckets at a time, from the last. A bucket whose winner is no closer than a later one's has
  // none of its own (SuccessorFewEpilogue keeps the successor of each threshold, wherever that
  // lies).
  int32_t later = kNotSelected;
  uint64_t later_key = kNoKey;
#pragma unroll 1
  for (int32_t base = (buckets + 31) / 32 * 32 - 32; base >= 0; base -= 32) {
    const int32_t k = base + lane();
    const uint64_t key = k < buckets ? bucket.key[k] : kNoKey;
    bool wins = key != kNoKey;
    if constexpr (!kOrdered) {
      const uint64_t behind = smallest_behind(key, later_key);
      wins = key < behind;
      later_key = __shfl_sync(kAllLanes, wins ? key : behind, 0);
    }
    const uint32_t has = __ballot_sync(kAllLanes, wins);
    const uint32_t from_here = has >> lane();
    if (k < buckets) {
      winning_bucket[k] = from_here != 0 ? k + __ffs(int(from_here)) - 1 : later;
    }
    if (has != 0) later = base + __ffs(int(has)) - 1;
  }
  __syncwarp();
  const bool within_margin = rule.within_margin && rule.negatives == NegativeRule::kSemihard;
  const bool falls_back = rule.fallback == Fallback::kFarthest && has_farthest;
  bool farthest = false;
#pragma unroll 1
  for (int32_t k = lane(); k < count; k += 32) {
    const int32_t rank = choice[k];
    int32_t chosen = rank >= 0 ? winning_bucket[rank] : kNotSelected;
    if (chosen >= 0 && within_margin &&
        !inside_margin(d_ap[k], bucket.closer_distance(chosen), margin)) {
      chosen = kNotSelected;
    }
    if (chosen == kNotSelected && rank != kNotSelected && falls_back) chosen = kFarthest;
    choice[k] = chosen;
    farthest = farthest || chosen == kFarthest;
  }
  return farthest;
}

}  // namespace facenet::cuda
