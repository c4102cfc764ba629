// The selection of a small batch in one kernel, for there the launches of several take longest. It
// may end with the losses of the anchors and their sum.
//
// A block has a few anchors and meets all candidates. A warp measures up to 128 candidates at a
// time, by differences: lane l has candidates l, 32 + l and so on, in registers, and all anchors of
// the block, from shared memory. So a candidate's column is loaded by one lane alone, and no warp
// waits for another before all distances are there. Then warp w takes those of anchor w: positives
// become its thresholds, negatives compete for its buckets, and each slot chooses. What one warp
// owns needs no atomics in global memory, and exact distances no second look.
#include "cuda/anchor_loss.cuh"
#include "cuda/anchor_search.cuh"
#include "cuda/interleaved.h"
#include "cuda/launch.h"
#include "cuda/loss_sums.cuh"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"
#include "cuda/search_small.h"
#include "cuda/selection.cuh"
#include "cuda/small_memory.cuh"

namespace facenet::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int64_t kStaticBytes = 1024;  // that SmallMemory does not have, rounded up

__device__ __forceinline__ void add_square(const float4& y, const float4& x, float& sum) {
  sum = fmaf(y.x - x.x, y.x - x.x, sum);
  sum = fmaf(y.y - x.y, y.y - x.y, sum);
  sum = fmaf(y.z - x.z, y.z - x.z, sum);
  sum = fmaf(y.w - x.w, y.w - x.w, sum);
}

// By a warp: the distances of the block's anchors and of the candidates of kGroups groups, from
// `group` on.
template <int kAnchors, int kGroups>
__device__ void measure(const SmallBatch& batch, const SmallMemory& shared, int32_t first_anchor,
                        int32_t group) {
  const int32_t units = batch.layout.units, apart = units * kGroupRows;
  const float4* from = batch.candidates + interleaved_unit(kGroupRows * group, 0, units) + lane();
  const float4* anchors = shared.anchors;
  float squares[kAnchors][kGroups] = {};
  const auto add = [&](const float4(&x)[kGroups]) {
#pragma unroll
    for (int a = 0; a < kAnchors; ++a) {
      const float4 y = anchors[a];
#pragma unroll
      for (int e = 0; e < kGroups; ++e) add_square(y, x[e], squares[a][e]);
    }
    anchors += kAnchors;
  };
  float4 next[kGroups];  // is under way while its predecessor is added
#pragma unroll
  for (int e = 0; e < kGroups; ++e) next[e] = from[apart * e];
#pragma unroll(kAnchors == 16 ? 1 : 2)  // without spilled registers
  for (int32_t unit = 1; unit < units; ++unit) {
    from += kGroupRows;
    float4 x[kGroups];
#pragma unroll
    for (int e = 0; e < kGroups; ++e) {
      x[e] = next[e];
      next[e] = from[apart * e];
    }
    add(x);
  }
  add(next);
  const Rows<float>&rows = batch.pairs.anchors, &others = batch.pairs.candidates;
#pragma unroll
  for (int e = 0; e < kGroups; ++e) {
    const int32_t column = kGroupRows * (group + e) + lane();
    float* const to = shared.distances + column;
    if (rows.distance == Distance::kSqEuclidean) {
#pragma unroll
      for (int a = 0; a < kAnchors; ++a) to[a * batch.layout.pitch] = squares[a][e];
      continue;
    }
    const bool zero = column < others.count && others.is_zero(others.row(column));
#pragma unroll
    for (int a = 0; a < kAnchors; ++a) {
      const int32_t i = min(first_anchor + a, rows.count - 1);
      to[a * batch.layout.pitch] =
          distance_or_one(rows.distance, squares[a][e], zero || rows.is_zero(rows.row(i)));
    }
  }
}

// By a block: the distances to the candidates from `first` on, fewer than 32. A thread has a pair.
template <int kAnchors>
__device__ void measure_last(const SmallBatch& batch, const SmallMemory& shared,
                             int32_t first_anchor, int32_t first) {
  static_assert(31 * kAnchors <= kThreads);
  const Rows<float>&rows = batch.pairs.anchors, &others = batch.pairs.candidates;
  const int32_t a = int32_t(threadIdx.x) % kAnchors, units = batch.layout.units;
  const int32_t column = first + int32_t(threadIdx.x) / kAnchors;
  if (column >= others.count) return;
  const float4* const from = batch.candidates + interleaved_unit(column, 0, units);
  float squares = 0;
#pragma unroll 4
  for (int32_t unit = 0; unit < units; ++unit) {
    add_square(shared.anchors[unit * kAnchors + a], from[unit * kGroupRows], squares);
  }
  const int32_t i = min(first_anchor + a, rows.count - 1);
  const bool zero = others.is_zero(others.row(column)) || rows.is_zero(rows.row(i));
  shared.distances[a * batch.layout.pitch + column] = distance_or_one(rows.distance, squares, zero);
}

// Where an anchor's slots and its class are. Looked up before the distances are measured.
struct Span {
  int32_t offset, room, count;  // of its slots, and how many have a positive
  int32_t class_begin;
};

// By a warp: all that it has to find for its anchor, from the distances to all candidates.
//   keys, choices -> those of SelectionArrays. Returns the buckets, and the farthest's key where
//   a slot takes it.
__device__ AnchorChoices<float> select_anchor(const SmallBatch& batch, const SmallMemory& shared,
                                              int a, int32_t i, const Span& span,
                                              const TripletRule& rule, float margin,
                                              uint64_t& farthest) {
  const Pairs<float>& pairs = batch.pairs;
  const int32_t count = span.count, begin = span.class_begin;
  const int32_t pitch = batch.layout.pitch;
  const int64_t slot = int64_t(a) * batch.layout.slot_pitch;
  float* const distances = shared.distances + a * pitch;
  float* const positives = shared.positives + slot;
  float* const thresholds = shared.slopes + slot;  // until there are slopes
  int32_t* const choices = shared.choices + slot;
  uint64_t* const keys = shared.keys + slot + a;
  const AnchorSearch search{distances, shared.rows, pitch, shared.buckets + a * batch.layout.room,
                            batch.layout.room};
#pragma unroll 1
  for (int32_t k = lane(); k < (count + kSlotsTogether - 1) / kSlotsTogether * kSlotsTogether;
       k += 32) {
    const bool there = k < count;
    positives[k] = there && !pairs.excluded(i, begin + k) ? distances[begin + k] : NAN;
    if (there) {
      distances[begin + k] = NAN;  // no negative
    } else {
      choices[k] = kNotSelected;
    }
  }
#pragma unroll 1
  for (int32_t c = pairs.candidates.count + lane(); c < pitch; c += 32) distances[c] = NAN;
  __syncwarp();
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  const int32_t buckets =
      rank_positives<kSlotsTogether>(pairs, i, rule, count, positives, choices, thresholds);
  __syncwarp();
#pragma unroll 1
  for (int32_t k = lane(); k < batch.layout.room; k += 32) {
    // The one bucket of the closest of all has no threshold.
    const float threshold = k >= buckets ? INFINITY : semihard ? thresholds[k] : -1.0f;
    search.buckets[k] = {threshold, k == 0 ? 0 : ~0u, ~0u};
  }
  __syncwarp();
  if (buckets > 0 && batch.layout.room > AnchorSearch::kLeastRoom) {
    search.find_closest<true>();  // of large classes
  } else if (buckets > 0) {
    search.find_closest<false>();
  }
  __syncwarp();
#pragma unroll 1
  for (int32_t k = lane(); k < count; k += 32) {
    const SharedBucket::Words& found = search.buckets[k + 1];
    keys[k] = closer_key(value_of(found.closest), found.row);
  }
  __syncwarp();
  const Winners<float> bucket{keys, nullptr};
  const bool falls_back = choose_buckets<true>(rule, margin, count, positives, buckets, bucket,
                                               true, shared.winning + slot, choices);
  farthest = kNoKey;
  if (__any_sync(kAllLanes, falls_back)) {
    farthest = search.find_farthest();
#pragma unroll 1
    for (int32_t k = lane(); farthest == kNoKey && k < count; k += 32) {
      if (choices[k] == kFarthest) choices[k] = kNotSelected;
    }
  }
  __syncwarp();
  return {count, buckets, positives, choices, bucket, {&farthest, nullptr}};
}

template <int kAnchors>
__global__ void __launch_bounds__(kThreads, 1)
    select_small(const SmallBatch batch, const TripletRule rule, const float margin,
                 const SelectionArrays<float> to, const SmallLosses<float> losses) {
  const PushTable<float>& pushes = losses.edges.pushes;
  const int32_t cells = pushes.cells == nullptr ? 0 : pushes.row_cells;
  const SmallMemory shared(dynamic_shared_memory(), batch.layout, kAnchors);
  const Pairs<float>& pairs = batch.pairs;
  const int warp = int(threadIdx.x) / 32, units = batch.layout.units;
  const int32_t first_anchor = int32_t(blockIdx.x) * kAnchors;
  // What is loaded is not waited for before all of it is under way. Threads that need no span load
  // one too: without a branch.
  const int32_t own =
      min(first_anchor + min(int32_t(threadIdx.x), kAnchors - 1), pairs.anchors.count - 1);
  const int64_t offset = batch.slots.offset[own], next_offset = batch.slots.offset[own + 1];
  const int32_t slot_count = batch.slots.count[own], class_begin = pairs.class_begin[own];
  // Blocks look at all rows between them: at their anchors, and at their share of a bank.
  int32_t unfit_row = 0;
  if (batch.unfit != nullptr) {
    unfit_row = batch.unfit[own];
    const int32_t* const of_bank = batch.unfit + pairs.anchors.count;
#pragma unroll 1
    for (int64_t c = thread_number(); c < pairs.candidates.count && !pairs.self;
         c += int64_t(gridDim.x) * kThreads) {
      unfit_row |= of_bank[c];
    }
  }
  const auto anchor_unit = [&](int32_t k) {
    const int32_t i = first_anchor + k % kAnchors;
    return k < units * kAnchors && i < pairs.anchors.count
               ? batch.anchors[interleaved_unit(i, k / kAnchors, units)]
               : float4{0, 0, 0, 0};
  };
  float4 unit = anchor_unit(int32_t(threadIdx.x));
#pragma unroll 1
  for (int32_t k = int32_t(threadIdx.x); k < cells; k += kThreads) shared.pushes[k] = {};
  constexpr int kRows = 4;  // that a thread waits for together
#pragma unroll 1
  for (int32_t c = int32_t(threadIdx.x); c < pairs.candidates.count; c += kRows * kThreads) {
    uint32_t row[kRows];
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      row[n] = uint32_t(pairs.candidates.row(min(c + n * kThreads, pairs.candidates.count - 1)));
    }
#pragma unroll
    for (int n = 0; n < kRows; ++n) {
      if (c + n * kThreads < pairs.candidates.count) shared.rows[c + n * kThreads] = row[n];
    }
  }
#pragma unroll 1
  for (int32_t k = int32_t(threadIdx.x); k < units * kAnchors; k += kThreads) {
    shared.anchors[k] = unit;
    unit = anchor_unit(k + kThreads);
  }
  __shared__ Span spans[kAnchors];
  if (int(threadIdx.x) < kAnchors) {
    spans[threadIdx.x] = {int32_t(offset), int32_t(next_offset - offset), slot_count, class_begin};
  }
  __shared__ bool unfit;  // some row that the block has looked at
  const bool any_unfit = __syncthreads_or(unfit_row) != 0;
  if (threadIdx.x == 0) unfit = any_unfit;
  // Groups, of which a warp has one more than another at most.
  const int32_t groups = pairs.candidates.count / kGroupRows, more = groups % kWarps;
  int32_t group = groups / kWarps * warp + min(warp, more);
  const int32_t end = group + groups / kWarps + (warp < more);
  constexpr int kMost = kAnchors == 14 ? 4 : kAnchors == 8 ? 2 : 3;  // without spilled registers
#pragma unroll 1
  for (; group + kMost <= end; group += kMost) {
    measure<kAnchors, kMost>(batch, shared, first_anchor, group);
  }
  if (kMost > 3 && group + 3 == end) measure<kAnchors, 3>(batch, shared, first_anchor, group);
  if (group + 2 == end) measure<kAnchors, 2>(batch, shared, first_anchor, group);
  if (group + 1 == end) measure<kAnchors, 1>(batch, shared, first_anchor, group);
  measure_last<kAnchors>(batch, shared, first_anchor, kGroupRows * groups);
  __syncthreads();

  const int32_t i = first_anchor + warp;
  const bool has_anchor = warp < kAnchors && i < pairs.anchors.count;
  __shared__ AnchorSums<float> sums[kAnchors];
  if (warp < kAnchors && lane() == 0) sums[warp] = {0, 0, 0};
  uint64_t* const keys = shared.keys + int64_t(warp) * (batch.layout.slot_pitch + 1);
  if (has_anchor) {
    const Span span = spans[warp];
    uint64_t farthest;
    const AnchorChoices<float> found =
        select_anchor(batch, shared, warp, i, span, rule, margin, farthest);
    if (losses.wanted) {
      const AnchorSums<float> own_sums =
          anchor_loss<kSlotsTogether>(i, pairs, span.offset, span.room, found, losses,
                                      shared.slopes + int64_t(warp) * batch.layout.slot_pitch,
                                      [&](int32_t k, const Push<float>& push) {
                                        if (cells == 0) return;
                                        if (push.row != kNoRow)
                                          mark_push(shared.pushes, push.row, warp);
                                        keys[k] = uint64_t(bits_of(push.weight)) << 32 | push.row;
                                      });
      if (lane() == 0) sums[warp] = own_sums;
    } else {
      if (lane() == 0) {
        to.bucket_count[i] = found.buckets;
        to.farthest.key[i] = farthest;
      }
      for (int32_t k = lane(); k < found.count; k += 32) {
        to.d_ap[span.offset + k] = found.d_ap[k];
        to.choice[span.offset + k] = found.choice[k];
        to.bucket.key[span.offset + k] = found.bucket.key[k];
      }
    }
  }
  if (!losses.wanted) return;
  __syncthreads();
  const int32_t begin = spans[0].offset + first_anchor;
  if (cells > 0) number_pushes<kThreads>(shared.pushes, int32_t(blockIdx.x), begin, pushes);
  __syncthreads();
  // The last block to be done adds up all blocks. Barriers of the block extend the order of one
  // thread's fences to the others. It is of a warp that has no anchor, if there is such a warp.
  __shared__ bool last;
  if (warp == kWarps - 1) {
    const AnchorSums<float> of_lane = lane() < kAnchors ? sums[lane()] : AnchorSums<float>{0, 0, 0};
    const AnchorSums<float> all = {warp_sum(of_lane.loss), warp_sum(of_lane.triplets),
                                   warp_sum(of_lane.nonzero)};
    if (lane() == 0) {
      losses.sums.loss[blockIdx.x] = all.loss;
      losses.sums.triplets[blockIdx.x] = all.triplets;
      losses.sums.nonzero[blockIdx.x] = all.nonzero;
      if (unfit) atomicExch(&losses.flags->not_finite, 1);
      __threadfence();
      last = atomicAdd(&losses.flags->blocks_done, 1) + 1 == int(gridDim.x);
      __threadfence();
    }
  }
  if (cells > 0 && has_anchor) {
    const auto get = [&](int32_t k) {
      return Push<float>{uint32_t(keys[k]), value_of(uint32_t(keys[k] >> 32))};
    };
    place_pushes(shared.pushes, warp, spans[warp].room, false, get, pushes.weight + begin);
  }
  __syncthreads();
  if (!last) return;
  reduce_by_block<kThreads, 1>(losses.sums, int32_t(gridDim.x), losses.reduction);
}

struct Shape {
  int anchors;  // of a block; 0: it does not suit
  size_t bytes;
};

// The fewest anchors of a block with which all blocks run at once, or else the most that fit.
Shape shape_of(const Device& device, const SmallSizes& sizes) {
  Shape shape{0, 0};
  for (const int anchors : {4, 8, 14, 16}) {
    const SmallMemory shared(nullptr, SmallLayout(sizes), anchors);
    if (shared.bytes + kStaticBytes > device.shared_bytes()) break;
    shape = {anchors, size_t(shared.bytes)};
    if (sizes.anchors <= int64_t(anchors) * device.processors()) break;
  }
  return shape;
}

}  // namespace

int anchors_of_small_blocks(const Device& device, const SmallSizes& sizes) {
  return shape_of(device, sizes).anchors;
}

void search_small(const Device& device, const SmallSearch& search, const TripletRule& rule,
                  const SelectionArrays<float>& to, const SmallLosses<float>& losses) {
  const SmallBatch batch{search.pairs,
                         search.slots,
                         reinterpret_cast<const float4*>(search.anchors),
                         reinterpret_cast<const float4*>(search.candidates),
                         search.unfit,
                         SmallLayout(search.sizes())};
  const Shape shape = shape_of(device, search.sizes());
  const auto run = [&](auto* kernel) {
    const int64_t blocks = (int64_t(batch.pairs.anchors.count) + shape.anchors - 1) / shape.anchors;
    launch("select_small", sizes_of(batch.pairs).with("slots", to.slots), device.stream(),
           {unsigned(blocks), kThreads, shape.bytes}, kernel, batch, rule, float(rule.margin), to,
           losses);
  };
  if (shape.anchors == 4) run(select_small<4>);
  if (shape.anchors == 8) run(select_small<8>);
  if (shape.anchors == 14) run(select_small<14>);
  if (shape.anchors == 16) run(select_small<16>);
}

}  // namespace facenet::cuda
