// The choices that operators offer, and the rule by which triplets are selected. Kernels read them
// too, so there is no torch here; options.h says how callers spell them.
#pragma once

#include "semantics/random.h"

namespace facenet {

enum class PositiveRule { kAll, kHardest, kEasiest };
enum class NegativeRule {
  kSemihard,
  kHardest,
  kRandomSemihard,
  kRandomViolating,
  kDistanceWeighted
};
enum class Fallback { kFarthest, kDrop };
enum class Reduction { kMean, kMeanNonzero, kSum };

inline bool is_random(NegativeRule rule) {
  return rule != NegativeRule::kSemihard && rule != NegativeRule::kHardest;
}

struct TripletRule {
  PositiveRule positives;
  NegativeRule negatives;
  double margin;       // of the loss, of within_margin and of the uniform rules
  bool within_margin;  // only semi-hard negatives have this bound
  Fallback fallback;   // of rules that are not random
  double cutoff;       // of distance-weighted negatives, as is nonzero_loss_cutoff
  double nonzero_loss_cutoff;
  Seed seed;
};

}  // namespace facenet
