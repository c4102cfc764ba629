// Pairs whose distance, by products, is too close to a threshold to tell on which side it lies.
//
// They wait in shared memory until their warp has one for each of its lanes. Each lane then
// measures one by differences, and offers it to the bucket that it lies in. What is found is the
// least of all that was offered: it depends neither on the order of the pairs nor on how many wait.
// Thus no list can overflow, whatever the rows, and memory does not grow with the undecided.
//
// Shared memory: 64 pairs for each warp, 2 KiB.
#pragma once

#include "cuda/epilogues/successor.cuh"
#include "cuda/warp.cuh"
#include "semantics/successor.h"

namespace facenet::cuda {

struct UndecidedPair {
  int32_t anchor;  // sorted position
  int32_t row;     // the caller's row of the candidate
};

class UndecidedQueue {
 public:
  static constexpr int kRoom = 64;
  static constexpr int kMostWarps = 4;
  static constexpr int kSharedBytes = kMostWarps * kRoom * int(sizeof(UndecidedPair));

  __device__ UndecidedQueue(const SuccessorArguments& to, const Pairs<float>& pairs,
                            unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        waiting_pair_(reinterpret_cast<UndecidedPair*>(shared) + kRoom * (threadIdx.x / 32)) {}

  // After the last tile, by all lanes of a warp: those that still wait.
  __device__ ~UndecidedQueue() {
    while (waiting_ > 0) decide();
  }

  // By all lanes of a warp, each with the pairs of its tile whose bits, 8 * r + c, it has set.
  template <class Loop>
  __device__ void add(uint64_t bits, int32_t first_anchor, int32_t first_candidate) {
    uint32_t lanes = __ballot_sync(kAllLanes, bits != 0);
#pragma unroll 1
    for (; lanes != 0; lanes = __ballot_sync(kAllLanes, bits != 0)) {
      if (bits != 0) {
        const int place = waiting_ + __popc(lanes & ((1u << lane()) - 1));
        const int bit = __ffsll(static_cast<long long>(bits)) - 1;
        const int32_t candidate = first_candidate + Loop::tile_column(bit % 8);
        waiting_pair_[place] = {first_anchor + Loop::tile_row(bit / 8),
                                pairs_.candidates.row(candidate)};
        bits &= bits - 1;
      }
      waiting_ += __popc(lanes);
      while (waiting_ > to_.most_waiting) decide();
    }
  }

 private:
  // Up to 32 pairs, the last that came.
  __device__ void decide() {
    __syncwarp();  // the pairs are there
    const int first = max(waiting_ - 32, 0), place = first + lane();
    if (place < waiting_) {
      const UndecidedPair pair = waiting_pair_[place];
      const float d = row_distance(pairs_.anchors, pairs_.anchors.row(pair.anchor),
                                   pairs_.candidates, pair.row);
      const int64_t offset = to_.slots.offset[pair.anchor];
      const int64_t bucket =
          successor_bucket(to_.threshold + offset, to_.threshold_count[pair.anchor], d);
      if (bucket >= 0)
        offer_key(to_.decided_key + offset + bucket, closer_key(d, uint32_t(pair.row)));
    }
    waiting_ = first;
    __syncwarp();  // and are read no more
  }

  const SuccessorArguments& to_;
  const Pairs<float>& pairs_;
  UndecidedPair* waiting_pair_;  // [kRoom] this warp's
  int waiting_ = 0;              // at most to_.most_waiting between two calls
};

}  // namespace facenet::cuda
