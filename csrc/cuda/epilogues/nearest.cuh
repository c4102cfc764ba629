// nearest: the k closest candidates of each anchor.
//
// The tile's distances go through shared memory, so that one thread has a whole row of them. This
// thread is the only writer of the row's list, which lies in global memory. A row has one list for
// each stripe of candidates. Nearly all distances are beyond the last entry of the list, and cost
// the thread a read and a comparison.
//
// Shared memory: the tile, 64 rows of 65 (17 KiB in float, 33 in double).
#pragma once

#include "cuda/pair_stream.cuh"
#include "semantics/nearest.h"

namespace facenet::cuda {

template <class T>
class NearestEpilogue {
 public:
  struct Arguments {
    int32_t k;
    T* distance;     // [stripes, M, k]
    int32_t* index;  // [stripes, M, k]
  };

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return rows * kPitch * int(sizeof(T));
  }

  __device__ NearestEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to), pairs_(pairs), tile_(reinterpret_cast<T*>(shared)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    static_assert(Loop::kThreads == Loop::kTileRows && Loop::kTileColumns < kPitch,
                  "a thread for each row");
    anchor_ = first_anchor + int32_t(threadIdx.x);
    const int64_t at = (int64_t(blockIdx.y) * pairs_.anchors.count + anchor_) * to_.k;
    distances_ = to_.distance + at;
    indices_ = to_.index + at;
    if (anchor_ < pairs_.anchors.count) {
      for (int32_t place = 0; place < to_.k; ++place) {
        distances_[place] = INFINITY;
        indices_[place] = -1;
      }
    }
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    __syncthreads();  // the last tile has been looked at
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        tile_[Loop::tile_row(r) * kPitch + Loop::tile_column(c)] = tile.d[r][c];
      }
    }
    __syncthreads();
    if (anchor_ >= pairs_.anchors.count) return;
    const T* row = tile_ + int(threadIdx.x) * kPitch;
    const int32_t count = min(Loop::kTileColumns, pairs_.candidates.count - first_candidate);
    for (int32_t c = 0; c < count; ++c) {
      const int32_t j = first_candidate + c;
      if (row[c] > last_ || (pairs_.self && j == anchor_)) continue;
      offer_nearest(row[c], j, to_.k, distances_, indices_);
      last_ = distances_[to_.k - 1];
    }
  }

 private:
  static constexpr int kPitch = 65;  // rows begin in banks of their own

  const Arguments& to_;
  const Pairs<T>& pairs_;
  T* tile_;
  int32_t anchor_ = 0;
  T* distances_ = nullptr;
  int32_t* indices_ = nullptr;
  T last_ = INFINITY;
};

}  // namespace facenet::cuda
