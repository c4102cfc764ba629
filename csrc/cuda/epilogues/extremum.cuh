// extremum: the closest or the farthest negative of each anchor.
//
// A *key* (semantics/key.h) in global memory decides, by an atomic minimum. A *bound* for each
// anchor in shared memory rejects nearly every pair with one comparison. The bound may lag behind
// the key. The result is the minimum of all keys. It does not depend on the order of the pairs,
// nor on which of them the bounds let through.
//
// Shared memory: one word per row of the tile.
#pragma once

#include "cuda/epilogues/negatives.cuh"
#include "cuda/slots.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

struct ExtremumArguments {
  uint64_t* key;  // kNoKey at first; null: not wanted
};

// Atomic minimum with a look first: most offers come too late.
__device__ inline void offer_key(uint64_t* key, uint64_t offered) {
  if (offered < load_relaxed(key)) {
    atomicMin(reinterpret_cast<unsigned long long*>(key), static_cast<unsigned long long>(offered));
  }
}

// f(c) for every c whose bits are `value`: a loop, for it is rare and its code should stay small.
template <class F>
__device__ __forceinline__ void for_each_equal(const uint32_t (&bits)[8], uint32_t value,
                                               const F& f) {
  uint32_t equal = 0;
#pragma unroll
  for (int c = 0; c < 8; ++c) equal |= uint32_t(bits[c] == value) << c;
#pragma unroll 1
  for (; equal != 0; equal &= equal - 1) f(__ffs(int(equal)) - 1);
}

template <bool kFarthest>
class Extremum {
 public:
  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return rows * int(sizeof(uint32_t));
  }

  __device__ Extremum(const ExtremumArguments& to, unsigned char* shared)
      : key_(to.key), bound_(reinterpret_cast<uint32_t*>(shared)) {}

  // Row `row` of the block's tile has the key number `at`.
  __device__ void begin_row(int row, int64_t at, bool takes_part) {
    // As signed numbers, no distance is as small as -1 or as large as INT_MAX.
    uint32_t bound = kFarthest ? 0x7fffffffu : 0xffffffffu;
    if (key_ != nullptr && takes_part) {
      const uint64_t key = load_relaxed(key_ + at);
      if (key == kNoKey) {
        bound = kFarthest ? 0u : 0x7fffffffu;
      } else {
        bound = kFarthest ? ~uint32_t(key >> 32) : uint32_t(key >> 32);
      }
    }
    bound_[row] = bound;
  }

  // `bits`: the distances of one row of the tile that this thread has, kNoPair where none counts.
  __device__ static uint32_t best(const uint32_t (&bits)[8]) {
    uint32_t best = bits[0];
#pragma unroll
    for (int c = 1; c < 8; ++c) {
      best = kFarthest ? uint32_t(max(int32_t(best), int32_t(bits[c]))) : min(best, bits[c]);
    }
    return best;
  }

  // Whether the best of a row may be the best of all. Without a key to keep, never.
  __device__ bool improves(int row, uint32_t best) const {
    const int32_t bound = int32_t(load_relaxed(bound_ + row));
    return kFarthest ? int32_t(best) >= bound : int32_t(best) <= bound;
  }

  template <class IndexOf>
  __device__ void offer(int row, int64_t at, const uint32_t (&bits)[8], uint32_t best,
                        const IndexOf& index_of) {
    if (best > kInfinity) return;  // none counts
    const float d = value_of(best);
    for_each_equal(bits, best, [&](int c) {
      offer_key(key_ + at, kFarthest ? farther_key(d, index_of(c)) : closer_key(d, index_of(c)));
    });
    if (kFarthest) {
      atomicMax(reinterpret_cast<int*>(bound_ + row), int(best));
    } else {
      atomicMin(bound_ + row, best);
    }
  }

 private:
  uint64_t* key_;
  uint32_t* bound_;
};

// The epilogue on its own: the closest negative of every anchor, and the farthest where wanted.
class HardestEpilogue {
 public:
  struct Arguments {
    Slots slots;
    ExtremumArguments closest;   // [slots] at each anchor's first
    ExtremumArguments farthest;  // [M]
  };

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return Extremum<false>::shared_bytes(rows) + Extremum<true>::shared_bytes(rows);
  }

  __device__ HardestEpilogue(const Arguments& to, const Pairs<float>& pairs, unsigned char* shared)
      : to_(to), pairs_(pairs), shared_(shared) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    Extremum<false> closest(to_.closest, shared_);
    Extremum<true> farthest(to_.farthest, shared_ + Extremum<false>::shared_bytes(Loop::kTileRows));
    for (int row = int(threadIdx.x); row < Loop::kTileRows; row += Loop::kThreads) {
      const int32_t i = first_anchor + row;
      const bool takes_part = i < pairs_.anchors.count && to_.slots.count[i] > 0;
      closest.begin_row(row, takes_part ? to_.slots.offset[i] : 0, takes_part);
      farthest.begin_row(row, i, takes_part);
    }
    __syncthreads();
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<float>& tile) {
    Extremum<false> closest(to_.closest, shared_);
    Extremum<true> farthest(to_.farthest, shared_ + Extremum<false>::shared_bytes(Loop::kTileRows));
    for_each_row_of_negatives<Loop>(
        pairs_, first_anchor_, first_candidate, tile,
        [&](int row, int32_t i, const uint32_t (&bits)[8], const auto& index_of) {
          const uint32_t low = closest.best(bits), high = farthest.best(bits);
          const bool closer = closest.improves(row, low), farther = farthest.improves(row, high);
          if (!(closer | farther)) return;
          if (closer) closest.offer(row, to_.slots.offset[i], bits, low, index_of);
          if (farther) farthest.offer(row, i, bits, high, index_of);
        });
  }

 private:
  const Arguments& to_;
  const Pairs<float>& pairs_;
  unsigned char* shared_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
