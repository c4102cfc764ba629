// histogram: how many pairs of one label, and how many others, lie in each bin.
//
// Rows are in the caller's order and their labels are compared: what only counts needs no classes
// side by side. Nearly all pairs are of two labels and have distances within a few powers of two.
// These are counted in shared memory, in a window of bins that begins a little below the smallest
// of the block's first tile with any; others at once in global memory, as what the window has is at
// the end.
//
// Shared memory: kWindow counters and the window's begin, 8 KiB + 4 bytes.
#pragma once

#include "cuda/pair_stream.cuh"
#include "semantics/bins.h"

namespace facenet::cuda {

template <class T>
class HistogramEpilogue {
 public:
  struct Arguments {
    Bins bins;
    const int64_t* labels;       // [M]
    const int64_t* ref_labels;   // [N]
    unsigned long long* counts;  // [2, bins.columns()], zero at first
  };

  __host__ __device__ static constexpr int shared_bytes(int) {
    return (kWindow + 1) * int(sizeof(uint32_t));
  }

  __device__ HistogramEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        window_(reinterpret_cast<uint32_t*>(shared)),
        window_begin_(reinterpret_cast<int32_t*>(window_ + kWindow)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    threads_ = Loop::kThreads;
    for (int k = int(threadIdx.x); k < kWindow; k += threads_) window_[k] = 0;
    if (threadIdx.x == 0) *window_begin_ = kUnknown;
    __syncthreads();
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    if (!placed_) {
      int32_t least = kUnknown;
      for_each<Loop>(first_candidate, tile, [&](bool same, int32_t column) {
        if (!same) least = min(least, column);
      });
      if (least != kUnknown) atomicMin(window_begin_, least);
      __syncthreads();
      placed_ = *window_begin_ != kUnknown;
      __syncthreads();
    }
    const int32_t begin = *window_begin_ - kBelow;
    for_each<Loop>(first_candidate, tile, [&](bool same, int32_t column) {
      if (!same && uint32_t(column - begin) < uint32_t(kWindow)) {
        atomicAdd(window_ + (column - begin), 1u);
      } else {
        add(same ? 0 : 1, column, 1);
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
  static constexpr int kWindow = 2048;
  static constexpr int kBelow = 256;  // bins of the window below the first tile's smallest
  static constexpr int32_t kUnknown = 0x7fffffff;
  static constexpr int32_t kTilesOfCounter = 1 << 18;  // 64 x 64 pairs each, below 2^32

  // f(same, column) of every pair that counts.
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
        f(label == candidate_labels[c], int32_t(bin_column(tile.d[r][c], to_.bins)));
      }
    }
  }

  __device__ void add(int kind, int32_t column, uint32_t pairs) {
    atomicAdd(to_.counts + kind * to_.bins.columns() + column,
              static_cast<unsigned long long>(pairs));
  }

  __device__ void flush() {
    const int32_t begin = *window_begin_ - kBelow;
    for (int k = int(threadIdx.x); k < kWindow; k += threads_) {
      if (window_[k] != 0) add(1, begin + k, window_[k]);
      window_[k] = 0;
    }
  }

  const Arguments& to_;
  const Pairs<T>& pairs_;
  uint32_t* window_;
  int32_t* window_begin_;
  int32_t first_anchor_ = 0, tiles_ = 0;
  int threads_ = 0;
  bool placed_ = false;
};

}  // namespace facenet::cuda
