// What both forms of the successor epilogue work on. The meaning: semantics/successor.h.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/selection.h"
#include "cuda/slots.cuh"

namespace facenet::cuda {

// The buckets of anchor i are slots.offset[i] + k, k < threshold_count[i].
struct SuccessorArguments {
  Slots slots;
  const int32_t* threshold_count;  // [M]
  const float* threshold;          // [slots] ascending within an anchor
  uint64_t* key;                   // [slots] the bucket's closest negative, kNoKey at first
  ExtremumArguments farthest;
  uint64_t* decided_key;           // [slots] the closest of those measured by UndecidedQueue
  int32_t most_waiting;            // of them, see Device
  const float* anchor_terms;       // as MmaArguments has them
  const uint32_t* largest_square;  // of the candidates' rows, as bits
  SearchRounding rounding;         // 0: distances are those of the thresholds
};

// Half the width of the band around each of an anchor's thresholds in which a distance decides
// nothing.
__device__ inline float undecided_within(const SuccessorArguments& a, const Pairs<float>& pairs,
                                         int32_t anchor, float first_threshold,
                                         float last_threshold) {
  const float products = a.rounding.products;
  if (products == 0.0f) return 0.0f;
  const float differences = a.rounding.differences * last_threshold;
  const Distance kind = pairs.anchors.distance;
  if (kind == Distance::kCosine) return products + differences;
  const float squares = products * (a.anchor_terms[anchor] + value_of(*a.largest_square));
  if (kind == Distance::kSqEuclidean) return squares + differences;
  // The root of what differs by `squares`: most where the root is smallest.
  const float root = sqrtf(squares);
  return (first_threshold > root ? squares / first_threshold : root) + differences;
}

// The same search on distances that need no second look.
inline SuccessorArguments exact(SuccessorArguments arguments) {
  arguments.rounding = {};
  return arguments;
}
inline HardestEpilogue::Arguments exact(const HardestEpilogue::Arguments& arguments) {
  return arguments;
}

}  // namespace facenet::cuda
