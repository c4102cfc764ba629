// A block with a group of anchors makes its part of the PushTable: anchors mark the rows that they
// push, all threads number the edges, and anchors place their weights.
#pragma once

#include "cuda/edges.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {

// The anchors of a cell that push its j-th row, as bits.
__device__ __forceinline__ uint32_t pushers(const PushCell& cell, int j) {
  return (j < 2 ? cell.words[0] : cell.words[1]) >> 16 * (j % 2) & 0xffff;
}

// Where the edges of a cell's j-th row begin among the group's.
__device__ __forceinline__ int32_t first_push(const PushCell& cell, int j) {
  const uint32_t before = j == 0 ? 0 : j == 1 ? cell.words[0] & 0xffff : cell.words[0];
  return int32_t(cell.words[1] >> 16) + __popc(before);
}

// `cells`: the group's, in shared memory, zero at first.
__device__ __forceinline__ void mark_push(PushCell* cells, uint32_t row, int bit) {
  const uint32_t j = row % PushCell::kRows;
  atomicOr(&cells[row / PushCell::kRows].words[j / 2], 1u << (16 * (j % 2) + uint32_t(bit)));
}

// By all threads of a block, once all rows are marked: numbers the edges of its group, which lie
// from `begin_of_group` on. The table gets the cells. Shared memory: a word for a warp.
template <int kThreads, class T>
__device__ void number_pushes(PushCell* cells, int32_t group, int32_t begin_of_group,
                              const PushTable<T>& to) {
  constexpr int kWarps = kThreads / 32;
  __shared__ int32_t sums[kWarps];
  const int warp = int(threadIdx.x) / 32;
  const int32_t each = (to.row_cells + kThreads - 1) / kThreads;
  const int32_t begin = min(int32_t(threadIdx.x) * each, to.row_cells);
  const int32_t end = min(begin + each, to.row_cells);
  const auto edges_of = [](const PushCell& cell) {
    return __popc(cell.words[0]) + __popc(cell.words[1] & 0xffff);
  };
  int32_t own = 0;
#pragma unroll 1
  for (int32_t c = begin; c < end; ++c) own += edges_of(cells[c]);
  int32_t before = own;
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const int32_t other = __shfl_up_sync(kAllLanes, before, apart);
    if (lane() >= apart) before += other;
  }
  if (lane() == 31) sums[warp] = before;
  if (threadIdx.x == 0) to.begin[group] = begin_of_group;
  __syncthreads();
  before += warp_sum(lane() < warp ? sums[lane()] : 0) - own;
#pragma unroll 1
  for (int32_t c = begin; c < end; ++c) {
    PushCell cell = cells[c];
    const int32_t edges = edges_of(cell);
    cell.words[1] |= uint32_t(before) << 16;
    before += edges;
    cells[c] = cell;
    to.cells[int64_t(c) * to.groups + group] = cell;
  }
}

// An edge as its anchor has it.
template <class T>
struct Push {
  uint32_t row;  // kNoRow: there is none
  T weight;
};

// By a warp, once the edges of its group are numbered: places the weights of those of its anchor,
// bit `bit` of the group.
//   get(k) 0 <= k < room: the anchor's edges; k = room: that of the farthest -> weight, the group's
// The last one may be to the row of another. So may others where `repeats`.
template <class T, class Get>
__device__ void place_pushes(const PushCell* cells, int bit, int32_t room, bool repeats,
                             const Get& get, T* weight) {
  const auto place = [&](const Push<T>& push) {
    const PushCell& cell = cells[push.row / PushCell::kRows];
    const int j = int(push.row % PushCell::kRows);
    weight[first_push(cell, j) + __popc(pushers(cell, j) & ((1u << bit) - 1))] = push.weight;
  };
  const Push<T> farthest = get(room);
  bool met = farthest.row == kNoRow;
#pragma unroll 1
  for (int32_t k = lane(); k < room; k += 32) {
    Push<T> push = get(k);
    if (push.row == kNoRow) continue;
    bool first = true;
#pragma unroll 1
    for (int32_t other = 0; repeats && other < room; ++other) {
      const Push<T> same = get(other);
      if (other == k || same.row != push.row) continue;
      first = first && other > k;
      push.weight += same.weight;
    }
    if (push.row == farthest.row) push.weight += farthest.weight;
    met = met || push.row == farthest.row;
    if (first) place(push);
  }
  if (!__any_sync(kAllLanes, met) && lane() == 0) place(farthest);
}

}  // namespace facenet::cuda
