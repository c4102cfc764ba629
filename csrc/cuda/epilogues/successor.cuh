// What both forms of the successor epilogue work on. The meaning: semantics/successor.h.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/slots.cuh"

namespace facenet::cuda {

// The buckets of anchor i are slots.offset[i] + k, k < threshold_count[i].
struct SuccessorArguments {
  Slots slots;
  const int32_t* threshold_count;  // [M]
  const float* threshold;          // [slots] ascending within an anchor
  uint64_t* key;                   // [slots] the bucket's closest negative, kNoKey at first
  ExtremumArguments farthest;
};

}  // namespace facenet::cuda
