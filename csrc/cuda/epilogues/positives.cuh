// positives: the distances of each anchor's own class, to the anchor's slots.
//
// Slot k of an anchor is the k-th row of its class among the sorted candidates; the anchor itself
// and an item with its id get a NaN there.
#pragma once

#include "cuda/pair_stream.cuh"
#include "cuda/slots.cuh"

namespace facenet::cuda {

template <class T>
class PositivesEpilogue {
 public:
  struct Arguments {
    Slots slots;
    T* distance;  // [slots]
  };

  __host__ __device__ static constexpr int shared_bytes(int) { return 0; }
  __device__ PositivesEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char*)
      : to_(to), pairs_(pairs) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    bool any = false;
    for (int row = int(threadIdx.x); row < Loop::kTileRows; row += Loop::kThreads) {
      const int32_t i = first_anchor + row;
      any = any || (i < pairs_.anchors.count && to_.slots.count[i] > 0);
    }
    return __syncthreads_or(any) != 0;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int32_t i = first_anchor_ + Loop::tile_row(r);
      if (i >= pairs_.anchors.count || to_.slots.count[i] == 0) continue;
      const int32_t class_begin = pairs_.class_begin[i];
      T* const out = to_.distance + to_.slots.offset[i] - class_begin;
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        if (j < class_begin || j >= pairs_.class_end[i]) continue;
        out[j] = pairs_.excluded(i, j) ? T(NAN) : tile.d[r][c];
      }
    }
  }

 private:
  const Arguments& to_;
  const Pairs<T>& pairs_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
