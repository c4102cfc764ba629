// successor, few thresholds: the closest negative beyond each of up to four positive distances.
//
// The smallest beyond(d, t) of semantics/key.h is the strict successor. add_min finds it in one
// instruction for each pair and threshold (DPX on sm_90). As in extremum.cuh, a key in global
// memory decides and a bound in shared memory rejects.
//
// Where distances come from products, there is a band around each threshold. The offsets are then
// those of the lower ends of the bands, and a pair within a band is left to UndecidedQueue.
//
// Shared memory: the queue; per row of the tile four offsets, four upper ends of bands, four
// bounds, and the farthest's bound.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/epilogues/negatives.cuh"
#include "cuda/epilogues/successor.cuh"
#include "cuda/epilogues/undecided.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {

constexpr int kMostFew = 4;

// No anchor has more than kThresholds, which are looked for whether they are there or not.
template <int kThresholds>
class SuccessorFewEpilogue {
 public:
  using Arguments = SuccessorArguments;
  static constexpr int kMost = kMostFew;  // an anchor's words are 16 bytes in every instance

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return UndecidedQueue::kSharedBytes + 3 * kMost * rows * int(sizeof(uint32_t)) +
           Extremum<true>::shared_bytes(rows);
  }

  __device__ SuccessorFewEpilogue(const Arguments& to, const Pairs<float>& pairs,
                                  unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        queue_(to, pairs, shared),
        shared_(reinterpret_cast<uint32_t*>(shared + UndecidedQueue::kSharedBytes)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    static_assert(Loop::kThreads <= 32 * UndecidedQueue::kMostWarps, "a queue for each warp");
    first_anchor_ = first_anchor;
    queue_.begin(first_anchor);
    Extremum<true> farthest(to_.farthest, farthest_shared<Loop>());
    for (int row = int(threadIdx.x); row < Loop::kTileRows; row += Loop::kThreads) {
      const int32_t i = first_anchor + row;
      const int32_t count = i < pairs_.anchors.count ? to_.threshold_count[i] : 0;
      farthest.begin_row(row, i, count > 0);
      const float* t = to_.threshold + (count > 0 ? to_.slots.offset[i] : 0);
      const float band = count > 0 ? undecided_within(to_, pairs_, i, t[0], t[count - 1]) : 0.0f;
      for (int k = 0; k < kMost; ++k) {
        // Unused: every u is at least 2^31, beyond the bound of 0.
        uint32_t offset = 0x80000000u, bound = 0;
        float band_end = 0;
        if (k < count) {
          const uint64_t key = load_relaxed(to_.key + to_.slots.offset[i] + k);
          offset = t[k] - band < 0.0f ? 0u : successor_offset(t[k] - band);  // 0: every distance
          band_end = t[k] + band;
          bound = key == kNoKey ? 0x7fffffffu : uint32_t(key >> 32) + offset;
        }
        offsets<Loop>()[kMost * row + k] = offset;
        band_ends<Loop>()[kMost * row + k] = band_end;
        bounds<Loop>()[kMost * row + k] = bound;
      }
    }
    __syncthreads();
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<float>& tile) {
    Extremum<true> farthest(to_.farthest, farthest_shared<Loop>());
    for_each_row_of_negatives<Loop>(
        pairs_, first_anchor_, first_candidate, tile,
        [&](int row, int32_t i, const uint32_t (&bits)[8], const auto& index_of) {
          const uint4 four = reinterpret_cast<const uint4*>(offsets<Loop>())[row];
          const uint32_t offset_of[kMost] = {four.x, four.y, four.z, four.w};
          bool improves = false;
#pragma unroll
          for (int k = 0; k < kThresholds; ++k) {
            uint32_t best = kNoPair;
#pragma unroll
            for (int c = 0; c < 8; ++c) best = add_min(bits[c], offset_of[k], best);
            improves |= best <= load_relaxed(bounds<Loop>() + kMost * row + k);
          }
          const uint32_t high = farthest.best(bits);
          const bool farther = farthest.improves(row, high);
          if (!(improves | farther)) return;
          if (improves) offer<Loop>(row, i, bits, index_of);
          if (farther) farthest.offer(row, i, bits, high, index_of);
        });
    queue_.settle();
  }

 private:
  // Of each bucket the closest of this thread's row. Loops: few improve, and the code should stay
  // small.
  template <class Loop, class IndexOf>
  __device__ __forceinline__ void offer(int row, int32_t i, const uint32_t (&bits)[8],
                                        const IndexOf& index_of) const {
#pragma unroll 1
    for (int k = 0; k < kThresholds; ++k) {
      const int at = kMost * row + k;
      const uint32_t offset = offsets<Loop>()[at], bound = load_relaxed(bounds<Loop>() + at);
      uint32_t passing = 0;
#pragma unroll
      for (int c = 0; c < 8; ++c) passing |= uint32_t(bits[c] + offset <= bound) << c;
      uint64_t closest = kNoKey;
#pragma unroll 1
      for (; passing != 0; passing &= passing - 1) {
        const int c = __ffs(int(passing)) - 1;
        const uint32_t d = pick(bits, c);
        if (value_of(d) <= band_ends<Loop>()[at]) {
          queue_.add(row, index_of(c));
        } else if (d <= uint32_t(closest >> 32)) {
          closest = min(closest, closer_key(value_of(d), index_of(c)));
        }
      }
      if (closest == kNoKey) continue;
      offer_key(to_.key + to_.slots.offset[i] + k, closest);
      atomicMin(bounds<Loop>() + at, uint32_t(closest >> 32) + offset);
    }
  }

  template <class Loop>
  __device__ uint32_t* offsets() const {
    return shared_;
  }
  template <class Loop>
  __device__ float* band_ends() const {
    return reinterpret_cast<float*>(shared_ + kMost * Loop::kTileRows);
  }
  template <class Loop>
  __device__ uint32_t* bounds() const {
    return shared_ + 2 * kMost * Loop::kTileRows;
  }
  template <class Loop>
  __device__ unsigned char* farthest_shared() const {
    return reinterpret_cast<unsigned char*>(shared_ + 3 * kMost * Loop::kTileRows);
  }

  const Arguments& to_;
  const Pairs<float>& pairs_;
  UndecidedQueue queue_;
  uint32_t* shared_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
