// The search of a small batch: of one anchor's distances the closest beyond each threshold.
#pragma once

#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

// The distances of an anchor, as its warp goes through them: a lane has kQuads times 4 side by
// side.
struct AnchorSearch {
  static constexpr int kQuads = 2;                 // that a lane looks at together,
  static constexpr int32_t kQuadColumns = 4 * 32;  // with those of other lanes between
  static constexpr int32_t kLeastRoom = 64;

  const float* distances;  // [pitch] NaN: no negative
  const uint32_t* rows;    // [pitch]
  int32_t pitch;           // whole quads of all lanes
  // [room] Their thresholds ascend, infinite behind the last. What lies between one and the one
  // before competes for it, and what does not lie above the first for nothing.
  SharedBucket::Words* buckets;
  int32_t room;  // a power of two, kLeastRoom or more, and more than there are

  template <class Word, int kEach>
  __device__ static void load(const Word* from, int32_t base, Word (&to)[kEach]) {
    struct alignas(16) Four {
      Word word[4];
    };
#pragma unroll
    for (int q = 0; q < kEach / 4; ++q) {
      const Four four = *reinterpret_cast<const Four*>(from + base + q * kQuadColumns + 4 * lane());
#pragma unroll
      for (int v = 0; v < 4; ++v) to[4 * q + v] = four.word[v];
    }
  }

  // Moves each to the first bucket whose threshold is not below the distance. They take their steps
  // together: a load, a comparison and an addition each.
  template <bool kLarge, int kEach>
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

  // By a warp: lowers the buckets by kTurnQuads quads of each lane.
  template <bool kLarge, int kTurnQuads>
  __device__ __forceinline__ void lower(int32_t base, const SharedBucket& begin) const {
    constexpr int kEach = 4 * kTurnQuads;
    float d[kEach];
    load(distances, base, d);
    SharedBucket at[kEach];
#pragma unroll
    for (int v = 0; v < kEach; ++v) at[v] = begin;
    find<kLarge>(d, at);
    uint32_t known[kEach];
#pragma unroll
    for (int v = 0; v < kEach; ++v) known[v] = at[v].closest();
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

  // By a warp: of each bucket the closest distance, and of its candidates the first row.
  template <bool kLarge>
  __device__ void find_closest() const {
    const SharedBucket begin(buckets);
    int32_t base = 0;
#pragma unroll 1
    for (; base + kQuads * kQuadColumns <= pitch; base += kQuads * kQuadColumns) {
      lower<kLarge, kQuads>(base, begin);
    }
    if (base < pitch) lower<kLarge, 1>(base, begin);
  }

  // By a warp: the key of the farthest.
  __device__ uint64_t find_farthest() const {
    float far = -1;
#pragma unroll 1
    for (int32_t c = lane(); c < pitch; c += 32) far = fmaxf(far, distances[c]);
    far = warp_max(far);
    if (far < 0) return kNoKey;
    uint32_t row = ~0u;
#pragma unroll 1
    for (int32_t c = lane(); c < pitch; c += 32) {
      if (distances[c] == far) row = min(row, rows[c]);
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
      row = min(row, __shfl_xor_sync(kAllLanes, row, apart));
    }
    return farther_key(far, row);
  }
};

}  // namespace facenet::cuda
