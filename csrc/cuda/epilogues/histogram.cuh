// histogram: how many pairs of one label, and how many others, lie in each bin.
//
// Rows are in the caller's order, and the kernel compares their labels: it only counts, so it does
// not need the rows of a class side by side. Nearly all pairs have two labels. Their distances are
// within a few powers of two, or beyond all windows. Pairs beyond all windows are counted in
// registers, and other gaps in shared memory. Shared memory also has counters for some columns:
// these begin a little below the column of the smallest distance, from the first window on, in the
// block's first tile that has one. All other pairs are counted directly in global memory. At the
// end the block adds its own counters to global memory.
//
// Shared memory: kCached counters of columns, those of the gaps, and where the columns begin:
// 8 KiB + 140 bytes.
#pragma once

#include "cuda/distance_histogram.h"
#include "cuda/pair_stream.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {

template <class T>
class HistogramEpilogue {
 public:
  using Arguments = HistogramArguments;

  __host__ __device__ static constexpr int shared_bytes(int) {
    return (kCached + kGaps + 1) * int(sizeof(uint32_t));
  }

  __device__ HistogramEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        cached_(reinterpret_cast<uint32_t*>(shared)),
        gaps_(cached_ + kCached),
        cached_begin_(reinterpret_cast<int32_t*>(gaps_ + kGaps)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    threads_ = Loop::kThreads;
    for (int k = int(threadIdx.x); k < kCached + kGaps; k += threads_) cached_[k] = 0;
    if (threadIdx.x == 0) *cached_begin_ = kUnknown;
    __syncthreads();
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    if (!placed_) {
      // Each thread finds the column of its least distance alone: the code for a column is long.
      const T lowest = T(value_of(Bits(to_.bins.low[0])));
      T least = T(INFINITY);
      for_each<Loop>(first_candidate, tile, [&](bool same, T d) {
        if (!same && d >= lowest && d < least) least = d;
      });
      const Column column = column_of(least, to_.bins);
      if (least < T(INFINITY) && column.gap < to_.bins.windows) {
        atomicMin(cached_begin_, int32_t(column.number));
      }
      __syncthreads();
      placed_ = *cached_begin_ != kUnknown;
      __syncthreads();
    }
    const int32_t begin = *cached_begin_ - kBelow;
    for_each<Loop>(first_candidate, tile, [&](bool same, T d) {
      const Column column = column_of(d, to_.bins);
      const int kind = same ? 0 : 1;
      if (column.gap == to_.bins.windows) {
        same ? ++beyond_same_ : ++beyond_different_;
      } else if (column.gap >= 0) {
        atomicAdd(gaps_ + kind * kGapsOfKind + column.gap, 1u);
      } else if (!same && uint32_t(int32_t(column.number) - begin) < uint32_t(kCached)) {
        atomicAdd(cached_ + (int32_t(column.number) - begin), 1u);
      } else {
        add(kind, column.number, 1);
      }
    });
    if (++tiles_ % kTilesOfCounter == 0) {
      __syncthreads();
      flush();
      __syncthreads();
    }
  }

  // A block's last act.
  __device__ ~HistogramEpilogue() {
    __syncthreads();
    flush();
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static constexpr int kCached = 2048;
  static constexpr int kBelow = 256;  // cached columns below the first tile's smallest
  static constexpr int kGapsOfKind = Bins::kMostWindows + 1, kGaps = 2 * kGapsOfKind;
  static constexpr int32_t kUnknown = 0x7fffffff;
  static constexpr int32_t kTilesOfCounter = 1 << 18;  // 64 x 64 pairs each, below 2^32

  // f(same, distance) of every pair that counts.
  template <class Loop, class F>
  __device__ __forceinline__ void for_each(int32_t first_candidate, const ThreadTile<T>& tile,
                                           const F& f) const {
    const int32_t m = pairs_.anchors.count, n = pairs_.candidates.count;
    int64_t candidate_labels[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const int32_t j = first_candidate + Loop::tile_column(c);
      candidate_labels[c] = j < n ? to_.ref_labels[j] : 0;
    }
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int32_t i = first_anchor_ + Loop::tile_row(r);
      if (i >= m) continue;
      const int64_t label = to_.labels[i];
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        if (j >= n || (pairs_.self && j <= i)) continue;
        f(label == candidate_labels[c], tile.d[r][c]);
      }
    }
  }

  __device__ void add(int kind, int64_t column, uint32_t pairs) {
    atomicAdd(to_.counts + kind * to_.bins.columns() + column,
              static_cast<unsigned long long>(pairs));
  }

  // Between two barriers, or at the end.
  __device__ void flush() {
    const int32_t begin = *cached_begin_ - kBelow;
    for (int k = int(threadIdx.x); k < kCached; k += threads_) {
      if (cached_[k] != 0) add(1, begin + k, cached_[k]);
      cached_[k] = 0;
    }
    for (int k = int(threadIdx.x); k < kGaps; k += threads_) {
      if (gaps_[k] != 0) add(k / kGapsOfKind, to_.bins.gap(k % kGapsOfKind), gaps_[k]);
      gaps_[k] = 0;
    }
    const uint32_t same = warp_sum(beyond_same_), different = warp_sum(beyond_different_);
    if (lane() == 0 && same != 0) add(0, to_.bins.beyond(), same);
    if (lane() == 0 && different != 0) add(1, to_.bins.beyond(), different);
    beyond_same_ = beyond_different_ = 0;
  }

  const Arguments& to_;
  const Pairs<T>& pairs_;
  uint32_t* cached_;
  uint32_t* gaps_;
  int32_t* cached_begin_;
  int32_t first_anchor_ = 0, tiles_ = 0;
  uint32_t beyond_same_ = 0, beyond_different_ = 0;
  int threads_ = 0;
  bool placed_ = false;
};

}  // namespace facenet::cuda
