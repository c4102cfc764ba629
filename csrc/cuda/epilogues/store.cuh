// store: every distance to its place in the output matrix. No state.
//
// In self mode d(i, j) = d(j, i): blocks take the tiles from the diagonal on and write those beyond
// it twice, at half the arithmetic.
#pragma once

#include "cuda/pair_stream.cuh"

namespace facenet::cuda {

template <class T>
class StoreEpilogue {
 public:
  struct Arguments {
    T* out;       // [M, N]
    bool mirror;  // write out[j, i] too
  };

  __host__ __device__ static constexpr int shared_bytes(int) { return 0; }
  __device__ StoreEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char*)
      : to_(to), pairs_(pairs) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    const int32_t m = pairs_.anchors.count, n = pairs_.candidates.count;
    const bool mirror = to_.mirror && first_candidate != first_anchor_;
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int32_t i = first_anchor_ + Loop::tile_row(r);
      if (i >= m) continue;
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        if (j >= n) continue;
        to_.out[int64_t(i) * n + j] = tile.d[r][c];
        if (mirror) to_.out[int64_t(j) * n + i] = tile.d[r][c];
      }
    }
  }

 private:
  const Arguments& to_;
  const Pairs<T>& pairs_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
