// The search of a small batch: of one anchor's distances the closest beyond each threshold.
#pragma once

#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

// The distances of an anchor, as its warp goes through them: a lane has kQuads times 4 side by
// side.
struct AnchorSearch {
  static constexpr int kEach = 8;  // distances that a lane looks at together: kQuads times 4, with
  static constexpr int kQuads = kEach / 4;  // those of other lanes between
  static constexpr int32_t kTogether = 32 * kEach;
  static constexpr int32_t kLeastRoom = 64;

  const float* distances;  // [pitch] NaN: no negative
  const uint32_t* rows;    // [pitch]
  int32_t pitch;
  // [room] Their thresholds ascend, infinite behind the last. What lies between one and the one
  // before competes for it, and what does not lie above the first for nothing.
  SharedBucket::Words* buckets;
  int32_t room;  // a power of two, kLeastRoom or more, and more than there are

  // The candidate that v is. `base`: of the warp's.
  __device__ static int32_t column(int32_t base, int v) {
    return base + v / 4 * 128 + 4 * lane() + v % 4;
  }

  template <class Word>
  __device__ static void load(const Word* from, int32_t base, Word (&to)[kEach]) {
    struct alignas(16) Four {
      Word word[4];
    };
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const Four four = *reinterpret_cast<const Four*>(from + column(base, 4 * q));
#pragma unroll
      for (int v = 0; v < 4; ++v) to[4 * q + v] = four.word[v];
    }
  }

  // Moves each to the first bucket whose threshold is not below the distance. They take their steps
  // together: a load, a comparison and an addition each.
  template <bool kLarge>
  __device__ __forceinline__ void find(const float (&d)[kEach], SharedBucket (&at)[kEach]) const {
    const auto step = [&](int32_t half) {
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        if (at[v].threshold(half - 1) < d[v]) at[v].move(half);
      }
    };
    if constexpr (kLarge) {
      for (int32_t half = room / 2; half >= kLeastRoom; half /= 2) step(half);
    }
#pragma unroll
    for (int32_t half = kLeastRoom / 2; half > 0; half /= 2) step(half);
  }

  // By a warp: of each bucket the closest distance, and of its candidates the first row. Returns
  // the farthest of the lane; -1: none.
  template <bool kLarge>
  __device__ float find_closest() const {
    const SharedBucket begin(buckets);
    float far = -1;
#pragma unroll 1
    for (int32_t base = 0; base < pitch; base += kTogether) {
      float d[kEach];
      load(distances, base, d);
      SharedBucket at[kEach];
#pragma unroll
      for (int v = 0; v < kEach; ++v) at[v] = begin;
      find<kLarge>(d, at);
      uint32_t known[kEach];
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        known[v] = at[v].closest();
        far = fmaxf(far, d[v]);
      }
      __syncwarp();
      // Rows that were found before are not as close.
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        if (bits_of(d[v]) < known[v]) at[v].lower_closest_and_forget_row(bits_of(d[v]));
      }
      __syncwarp();
      uint32_t closest[kEach], row[kEach];
#pragma unroll
      for (int v = 0; v < kEach; ++v) closest[v] = at[v].closest();
      load(rows, base, row);
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        if (closest[v] == bits_of(d[v])) at[v].lower_row(row[v]);
      }
      __syncwarp();
    }
    return far;
  }

  // By a warp: the key of the farthest, whose distance is `far`.
  __device__ uint64_t find_farthest(float far) const {
    uint32_t row = ~0u;
#pragma unroll 1
    for (int32_t base = 0; base < pitch; base += kTogether) {
      float d[kEach];
      load(distances, base, d);
      bool any = false;
#pragma unroll
      for (int v = 0; v < kEach; ++v) any = any | (d[v] == far);
      if (!any) continue;
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        if (d[v] == far) row = min(row, rows[column(base, v)]);
      }
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
      row = min(row, __shfl_xor_sync(kAllLanes, row, apart));
    }
    return farther_key(far, row);
  }
};

}  // namespace facenet::cuda
