// within: every pair that is no farther apart than a radius, in any order.
//
// Such pairs are few. Each claims its place by an atomic addition. Beyond the capacity
// pairs are only counted. No shared memory.
#pragma once

#include "cuda/pair_stream.cuh"
#include "cuda/pairs_within.h"

namespace facenet::cuda {

template <class T>
class WithinEpilogue {
 public:
  using Arguments = WithinArguments<T>;

  __host__ __device__ static constexpr int shared_bytes(int) { return 0; }
  __device__ WithinEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char*)
      : to_(to), pairs_(pairs) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    const int32_t m = pairs_.anchors.count, n = pairs_.candidates.count;
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int32_t i = first_anchor_ + Loop::tile_row(r);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        if (!(tile.d[r][c] <= to_.radius)) continue;
        if (i >= m || j >= n || (pairs_.self && j <= i)) continue;
        const auto place = int64_t(atomicAdd(to_.count, 1ull));
        if (place >= to_.capacity) continue;
        to_.pairs[2 * place] = i;
        to_.pairs[2 * place + 1] = j;
        to_.distance[place] = tile.d[r][c];
      }
    }
  }

 private:
  const Arguments& to_;
  const Pairs<T>& pairs_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
