// successor, any number of thresholds: the closest negative beyond each of the positive distances.
//
// Of all pairs few improve the bucket that they fall into, so a table for each row rejects the
// others. It has kCells cells: one for what is below the first threshold, the others of equal width
// from there to the last. Each cell holds the largest distance that may still improve a bucket
// there. A distance that passes is searched for among the thresholds, and offered to its bucket's
// key. As the keys shrink, the block builds the tables again, after 2, 4, 8, ... tiles. An old
// table lets more pairs through, and never rejects a pair that a new one would accept.
//
// Where distances come from products, a pair in the band around a threshold is left to
// UndecidedQueue. The cells of the bands therefore stay open, even if the keys are smaller.
//
// Shared memory: the queue; per row of the tile kCells cells, their scale and shift, and the
// farthest's bound.
#pragma once

#include "cuda/epilogues/negatives.cuh"
#include "cuda/epilogues/successor.cuh"
#include "cuda/epilogues/undecided.cuh"
#include "cuda/warp.cuh"
#include "semantics/successor.h"

namespace facenet::cuda {

class SuccessorManyEpilogue {
 public:
  using Arguments = SuccessorArguments;
  static constexpr int kCells = 32;
  static constexpr int kStride = kCells + 1;  // so that like cells of several rows differ in bank
  static constexpr int kLongestPause = 16;    // tiles between two makings of the tables

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return UndecidedQueue::kSharedBytes + (kStride + 2) * rows * int(sizeof(float)) +
           Extremum<true>::shared_bytes(rows);
  }

  __device__ SuccessorManyEpilogue(const Arguments& to, const Pairs<float>& pairs,
                                   unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        queue_(to, pairs, shared),
        shared_(shared + UndecidedQueue::kSharedBytes) {}

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
      float scale = 0, shift = 0;
      if (count > 0) {
        const float* t = to_.threshold + to_.slots.offset[i];
        const float band = undecided_within(to_, pairs_, i, t[0], t[count - 1]);
        // From the second cell to the last; what lies below falls into the first. A range too small
        // to be divided by, or not finite, is one cell.
        const float first = t[0] - band, range = t[count - 1] - first;
        constexpr float kWidth = 1.0f / float(kCells - 1);
        if (range > 1e-30f && range < 1e30f) {
          scale = (1.0f - kWidth) / range;
          shift = kWidth - first * scale;
        }
      }
      scales<Loop>()[row] = scale;
      shifts<Loop>()[row] = shift;
    }
    __syncthreads();
    make_tables<Loop>();
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<float>& tile) {
    Extremum<true> farthest(to_.farthest, farthest_shared<Loop>());
    for_each_row_of_negatives<Loop>(
        pairs_, first_anchor_, first_candidate, tile,
        [&](int row, int32_t i, const uint32_t (&bits)[8], const auto& index_of) {
          const float scale = scales<Loop>()[row], shift = shifts<Loop>()[row];
          const float* cells = tables<Loop>() + kStride * row;
          bool improves = false;
#pragma unroll
          for (int c = 0; c < 8; ++c) {
            // NaN fails the comparison. Without a branch: one for each pair takes longer than its
            // cell.
            const float d = value_of(bits[c]);
            improves |= d <= cells[cell(d, scale, shift)];
          }
          const uint32_t high = farthest.best(bits);
          const bool farther = farthest.improves(row, high);
          if (!(improves | farther)) return;
          if (improves) offer<Loop>(row, i, bits, index_of);
          if (farther) farthest.offer(row, i, bits, high, index_of);
        });
    queue_.settle();
    if (++tiles_ == next_tables_) {
      next_tables_ += min(tiles_, kLongestPause);
      __syncthreads();  // all are done with the old ones
      make_tables<Loop>();
    }
  }

 private:
  // Ascends with d. The tables need nothing else: the same rounding makes and reads them.
  __device__ static int cell(float d, float scale, float shift) {
    const float place = __saturatef(fmaf(d, scale, shift));  // NaN: 0
    // Adding 2^23 leaves an integer in the low bits.
    return int(bits_of(fmaf(place, float(kCells - 1), 8388608.0f)) - bits_of(8388608.0f));
  }

  // Takes a second look at a thread's row. Loops: few pairs pass, and the code should stay small.
  template <class Loop, class IndexOf>
  __device__ __forceinline__ void offer(int row, int32_t i, const uint32_t (&bits)[8],
                                        const IndexOf& index_of) const {
    const float scale = scales<Loop>()[row], shift = shifts<Loop>()[row];
    const float* const cells = tables<Loop>() + kStride * row;
    const int64_t offset = to_.slots.offset[i];
    const int32_t count = to_.threshold_count[i];
    const float* const t = to_.threshold + offset;
    const float band = undecided_within(to_, pairs_, i, t[0], t[count - 1]);
    const float first = t[0] - band;
    uint32_t passing = 0;
    // Not unrolled, or the compiler makes this mask for rows too in which nothing passes.
#pragma unroll 1
    for (int c = 0; c < 8; ++c) {
      const float d = value_of(pick(bits, c));
      passing |= uint32_t((d > first) & (d <= cells[cell(d, scale, shift)])) << c;
    }
#pragma unroll 1
    for (; passing != 0; passing &= passing - 1) {
      const int c = __ffs(int(passing)) - 1;
      const float d = value_of(pick(bits, c));
      const int64_t bucket = successor_bucket(t, count, d);
      if ((bucket >= 0 && d - t[bucket] < band) ||
          (bucket + 1 < count && t[bucket + 1] - d <= band && band > 0.0f)) {
        queue_.add(row, index_of(c));
      } else if (bucket >= 0) {
        offer_key(to_.key + offset + bucket, closer_key(d, index_of(c)));
      }
    }
  }

  // A warp per row, a lane per bucket: the interval (threshold, best so far] opens its cells.
  template <class Loop>
  __device__ void make_tables() const {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    for (int row = warp; row < Loop::kTileRows; row += Loop::kThreads / 32) {
      float* cells = tables<Loop>() + kStride * row;
      for (int c = lane; c < kCells; c += 32) cells[c] = -1;  // below every distance
      __syncwarp();
      const int32_t i = first_anchor_ + row;
      const int32_t count = i < pairs_.anchors.count ? to_.threshold_count[i] : 0;
      if (count == 0) continue;
      const int64_t offset = to_.slots.offset[i];
      const float* const t = to_.threshold + offset;
      const float scale = scales<Loop>()[row], shift = shifts<Loop>()[row];
      const float band = undecided_within(to_, pairs_, i, t[0], t[count - 1]);
      for (int32_t k = lane; k < count; k += 32) {
        const float threshold = t[k];
        const float low = threshold - band;
        const uint64_t key = load_relaxed(to_.key + offset + k);
        const float end = k + 1 < count ? t[k + 1] : INFINITY;
        const float high = fmaxf(key == kNoKey ? end : closer_key_distance(key), threshold + band);
        if (!(high > low)) continue;
        const int to = cell(high, scale, shift);
        for (int c = cell(low, scale, shift); c < to; ++c) raise(cells + c, INFINITY);
        raise(cells + to, high);
      }
    }
    __syncthreads();
  }

  __device__ static void raise(float* cell, float high) {
    atomicMax(reinterpret_cast<int*>(cell), int(bits_of(high)));
  }

  template <class Loop>
  __device__ float* tables() const {
    return reinterpret_cast<float*>(shared_);
  }
  template <class Loop>
  __device__ float* scales() const {
    return tables<Loop>() + kStride * Loop::kTileRows;
  }
  template <class Loop>
  __device__ float* shifts() const {
    return scales<Loop>() + Loop::kTileRows;
  }
  template <class Loop>
  __device__ unsigned char* farthest_shared() const {
    return reinterpret_cast<unsigned char*>(shifts<Loop>() + Loop::kTileRows);
  }

  const Arguments& to_;
  const Pairs<float>& pairs_;
  UndecidedQueue queue_;
  unsigned char* shared_;
  int32_t first_anchor_ = 0;
  int32_t tiles_ = 0;
  int32_t next_tables_ = 2;
};

}  // namespace facenet::cuda
