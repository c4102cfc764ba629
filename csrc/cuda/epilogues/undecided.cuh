// Pairs whose distance, by products, is too close to a threshold to tell on which side it lies.
//
// They wait in shared memory until their warp has one for each of its lanes. Each lane then
// measures one by differences, and offers it to the bucket that it lies in. Where a tile has more
// of them than there is room for, the thread that found one measures it at once. What is found is
// the least of all that was offered: it depends neither on the order of the pairs nor on how many
// wait. Thus no list can overflow, whatever the rows, and memory does not grow with the undecided.
//
// Shared memory, for each of four warps: a count, and kRoom pairs of 5 bytes; 816 bytes in all.
#pragma once

#include "cuda/epilogues/successor.cuh"
#include "cuda/warp.cuh"
#include "semantics/successor.h"

namespace facenet::cuda {

class UndecidedQueue {
 public:
  static constexpr int kRoom = 40;
  static constexpr int kMostWarps = 4;
  static constexpr int kSharedBytes = kMostWarps * (int(sizeof(uint32_t)) + kRoom * 5);

  __device__ UndecidedQueue(const SuccessorArguments& to, const Pairs<float>& pairs,
                            unsigned char* shared)
      : to_(to), pairs_(pairs) {
    const int warp = int(threadIdx.x) / 32;
    uint32_t* const words = reinterpret_cast<uint32_t*>(shared);
    count_ = words + warp;
    row_ = words + kMostWarps + kRoom * warp;
    anchor_ = reinterpret_cast<uint8_t*>(words + kMostWarps * (1 + kRoom)) + kRoom * warp;
    if (lane() == 0) *count_ = 0;
    __syncwarp();
  }

  // After the last tile, by all lanes of a warp: those that still wait.
  __device__ ~UndecidedQueue() {
    __syncwarp();
    measure_all();
  }

  // By all threads, before the first tile.
  __device__ void begin(int32_t first_anchor) { first_anchor_ = first_anchor; }

  // By any thread: a row of the tile, and the caller's row of the candidate.
  __device__ void add(int tile_row, uint32_t row) const {
    const uint32_t place = atomicAdd(count_, 1u);
    if (place >= uint32_t(kRoom)) {
      measure(first_anchor_ + tile_row, row);
      return;
    }
    row_[place] = row;
    anchor_[place] = uint8_t(tile_row);
  }

  // By all lanes of a warp, after each tile. None adds again before all have read the count: the
  // next tile's products need the whole warp.
  __device__ void settle() const {
    __syncwarp();  // the pairs are there
    if (load_relaxed(count_) > uint32_t(to_.most_waiting)) measure_all();
  }

 private:
  __device__ void measure_all() const {
    const int waiting = int(min(load_relaxed(count_), uint32_t(kRoom)));
    for (int place = lane(); place < waiting; place += 32)
      measure(first_anchor_ + anchor_[place], row_[place]);
    __syncwarp();  // they are read no more
    if (lane() == 0) *count_ = 0;
    __syncwarp();
  }

  __device__ void measure(int32_t anchor, uint32_t row) const {
    const float d =
        row_distance(pairs_.anchors, pairs_.anchors.row(anchor), pairs_.candidates, int32_t(row));
    const int64_t offset = to_.slots.offset[anchor];
    const int64_t bucket = successor_bucket(to_.threshold + offset, to_.threshold_count[anchor], d);
    if (bucket >= 0) offer_key(to_.decided_key + offset + bucket, closer_key(d, row));
  }

  const SuccessorArguments& to_;
  const Pairs<float>& pairs_;
  uint32_t* count_;  // may exceed kRoom
  uint32_t* row_;    // [kRoom] the caller's rows of the candidates
  uint8_t* anchor_;  // [kRoom] rows of the tile
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
