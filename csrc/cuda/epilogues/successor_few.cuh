// successor, few thresholds: the closest negative beyond each of up to four positive distances.
//
// The smallest beyond(d, t) of semantics/key.h is the strict successor; add_min finds it in one
// instruction per pair and threshold (DPX on sm_90). As in extremum.cuh a key in global memory
// decides and a bound in shared memory rejects.
//
// Shared memory, per row of the tile: the four offsets, the four bounds, and the farthest's.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/epilogues/negatives.cuh"
#include "cuda/epilogues/successor.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {

class SuccessorFewEpilogue {
 public:
  using Arguments = SuccessorArguments;
  static constexpr int kMost = 4;

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return 2 * kMost * rows * int(sizeof(uint32_t)) + Extremum<true>::shared_bytes(rows);
  }

  __device__ SuccessorFewEpilogue(const Arguments& to, const Pairs<float>& pairs,
                                  unsigned char* shared)
      : to_(to), pairs_(pairs), shared_(reinterpret_cast<uint32_t*>(shared)) {}

  template <class Loop>
  __device__ void begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    Extremum<true> farthest(to_.farthest, farthest_shared<Loop>());
    for (int row = int(threadIdx.x); row < Loop::kTileRows; row += Loop::kThreads) {
      const int32_t i = first_anchor + row;
      const int32_t count = i < pairs_.anchors.count ? to_.threshold_count[i] : 0;
      farthest.begin_row(row, i, count > 0);
      for (int k = 0; k < kMost; ++k) {
        // Unused: every u is at least 2^31, beyond the bound of 0.
        uint32_t offset = 0x80000000u, bound = 0;
        if (k < count) {
          const int64_t slot = to_.slots.offset[i] + k;
          const uint64_t key = load_relaxed(to_.key + slot);
          offset = successor_offset(to_.threshold[slot]);
          bound = key == kNoKey ? 0x7fffffffu : uint32_t(key >> 32) + offset;
        }
        offsets<Loop>()[kMost * row + k] = offset;
        bounds<Loop>()[kMost * row + k] = bound;
      }
    }
    __syncthreads();
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<float>& tile) {
    Extremum<true> farthest(to_.farthest, farthest_shared<Loop>());
    for_each_row_of_negatives<Loop>(
        pairs_, to_.slots, first_anchor_, first_candidate, tile,
        [&](int row, int32_t i, const uint32_t (&bits)[8], const auto& index_of) {
          uint32_t closest[kMost], improved = 0;
#pragma unroll
          for (int k = 0; k < kMost; ++k) {
            const uint32_t offset = offsets<Loop>()[kMost * row + k];
            uint32_t best = kNoPair;
#pragma unroll
            for (int c = 0; c < 8; ++c) best = add_min(bits[c], offset, best);
            closest[k] = best - offset;
            const uint32_t bound = load_relaxed(bounds<Loop>() + kMost * row + k);
            improved |= uint32_t(best <= bound && closest[k] <= kInfinity) << k;
          }
#pragma unroll 1
          for (; improved != 0; improved &= improved - 1) {
            const int k = __ffs(int(improved)) - 1;
            const uint32_t d = pick(closest, k);
            uint64_t* const key = to_.key + to_.slots.offset[i] + k;
            for_each_equal(bits, d,
                           [&](int c) { offer_key(key, closer_key(value_of(d), index_of(c))); });
            atomicMin(bounds<Loop>() + kMost * row + k, d + offsets<Loop>()[kMost * row + k]);
          }
          if (to_.farthest.key != nullptr) farthest.consume_row(row, i, bits, index_of);
        });
  }

 private:
  template <class Loop>
  __device__ uint32_t* offsets() const {
    return shared_;
  }
  template <class Loop>
  __device__ uint32_t* bounds() const {
    return shared_ + kMost * Loop::kTileRows;
  }
  template <class Loop>
  __device__ unsigned char* farthest_shared() const {
    return reinterpret_cast<unsigned char*>(shared_ + 2 * kMost * Loop::kTileRows);
  }

  const Arguments& to_;
  const Pairs<float>& pairs_;
  uint32_t* shared_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
