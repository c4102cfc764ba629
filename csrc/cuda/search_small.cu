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

namespace facenet::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int64_t kStaticBytes = 512;  // of reduce_by_block, rounded up

struct Batch {
  Pairs<float> pairs;
  Slots slots;
  const float4 *anchors, *candidates;  // interleaved
  int32_t most_slots;                  // no anchor has more
  int32_t room;                        // for its thresholds: room_for(most_slots)

  __host__ __device__ int32_t units() const { return units_of(pairs.anchors.dim); }
  // Candidates, filled up to what a warp looks at together.
  __host__ __device__ int32_t pitch() const {
    constexpr int32_t kTogether = AnchorSearch::kTogether;
    return (pairs.candidates.count + kTogether - 1) / kTogether * kTogether;
  }
};

// A power of two, and more than there are.
int32_t room_for(int64_t thresholds) {
  int64_t room = AnchorSearch::kLeastRoom;
  while (room <= thresholds) room *= 2;
  return int32_t(room);
}

// A block's shared memory; [i] is that of anchor i.
struct Shared {
  float4* anchors;               // [units][anchors]
  uint64_t* keys;                // [most_slots] each, with the distance above
  float* distances;              // [pitch] each
  uint32_t* rows;                // [pitch] of the candidates
  SharedBucket::Words* buckets;  // [room] each: see AnchorSearch
  float* positives;              // [most_slots] each
  float* slopes;                 // [most_slots] each
  int32_t* choices;              // [most_slots] each
  int32_t* winning;              // [most_slots] each
  uint32_t* pushes;              // [row_words]: see PushBits
  int64_t bytes;

  __host__ __device__ Shared(unsigned char* begin, const Batch& batch, int anchors_,
                             int32_t row_words) {
    unsigned char* next = begin;
    const int64_t slots = int64_t(anchors_) * batch.most_slots;
    anchors = take<float4>(next, int64_t(batch.units()) * anchors_);
    keys = take<uint64_t>(next, slots);  // `anchors_` is even: what follows is aligned
    distances = take<float>(next, int64_t(anchors_) * batch.pitch());
    rows = take<uint32_t>(next, batch.pitch());
    buckets = take<SharedBucket::Words>(next, int64_t(anchors_) * batch.room);
    positives = take<float>(next, slots);
    slopes = take<float>(next, slots);
    choices = take<int32_t>(next, slots);
    winning = take<int32_t>(next, slots);
    pushes = take<uint32_t>(next, row_words);
    bytes = next - begin;
  }

 private:
  template <class Value>
  static __host__ __device__ Value* take(unsigned char*& next, int64_t count) {
    Value* const array = reinterpret_cast<Value*>(next);
    next += count * int64_t(sizeof(Value));
    return array;
  }
};

__device__ __forceinline__ void add_square(const float4& y, const float4& x, float& sum) {
  sum = fmaf(y.x - x.x, y.x - x.x, sum);
  sum = fmaf(y.y - x.y, y.y - x.y, sum);
  sum = fmaf(y.z - x.z, y.z - x.z, sum);
  sum = fmaf(y.w - x.w, y.w - x.w, sum);
}

// By a warp: the distances of the block's anchors and of the candidates of kGroups groups, from
// `group` on.
template <int kAnchors, int kGroups>
__device__ void measure(const Batch& batch, const Shared& shared, int32_t first_anchor,
                        int32_t group) {
  const int32_t units = batch.units(), apart = units * kGroupRows;
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
#pragma unroll 2
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
      for (int a = 0; a < kAnchors; ++a) to[a * batch.pitch()] = squares[a][e];
      continue;
    }
    const bool zero = column < others.count && others.is_zero(others.row(column));
#pragma unroll
    for (int a = 0; a < kAnchors; ++a) {
      const int32_t i = min(first_anchor + a, rows.count - 1);
      to[a * batch.pitch()] =
          distance_or_one(rows.distance, squares[a][e], zero || rows.is_zero(rows.row(i)));
    }
  }
}

// By a block: the distances to the candidates from `first` on, fewer than 32. A thread has a pair.
template <int kAnchors>
__device__ void measure_last(const Batch& batch, const Shared& shared, int32_t first_anchor,
                             int32_t first) {
  static_assert(31 * kAnchors <= kThreads);
  const Rows<float>&rows = batch.pairs.anchors, &others = batch.pairs.candidates;
  const int32_t a = int32_t(threadIdx.x) % kAnchors, units = batch.units();
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
  shared.distances[a * batch.pitch() + column] = distance_or_one(rows.distance, squares, zero);
}

// By a warp: all that it has to find for its anchor, from the distances to all candidates.
//   keys, choices -> those of SelectionArrays. Returns the buckets, and the farthest's key.
__device__ AnchorChoices<float> select_anchor(const Batch& batch, const Shared& shared, int a,
                                              int32_t i, const TripletRule& rule, float margin,
                                              uint64_t& farthest) {
  const Pairs<float>& pairs = batch.pairs;
  const int32_t count = batch.slots.count[i], begin = pairs.class_begin[i];
  const int32_t pitch = batch.pitch();
  const int64_t slot = int64_t(a) * batch.most_slots;
  float* const distances = shared.distances + a * pitch;
  float* const positives = shared.positives + slot;
  float* const thresholds = shared.slopes + slot;  // until there are slopes
  int32_t* const choices = shared.choices + slot;
  uint64_t* const keys = shared.keys + slot;
  const AnchorSearch search{distances, shared.rows, pitch, shared.buckets + a * batch.room,
                            batch.room};
#pragma unroll 1
  for (int32_t k = lane(); k < count; k += 32) {
    positives[k] = pairs.excluded(i, begin + k) ? NAN : distances[begin + k];
    distances[begin + k] = NAN;  // no negative
  }
#pragma unroll 1
  for (int32_t c = pairs.candidates.count + lane(); c < pitch; c += 32) distances[c] = NAN;
  __syncwarp();
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  const int32_t buckets = rank_positives(pairs, i, rule, count, positives, choices, thresholds);
  __syncwarp();
#pragma unroll 1
  for (int32_t k = lane(); k < batch.room; k += 32) {
    // The one bucket of the closest of all has no threshold.
    const float threshold = k >= buckets ? INFINITY : semihard ? thresholds[k] : -1.0f;
    search.buckets[k] = {threshold, k == 0 ? 0 : ~0u, ~0u};
  }
  __syncwarp();
  float far = -1;
  if (buckets > 0) {
    far = batch.room > AnchorSearch::kLeastRoom ? search.find_closest<true>()  // of large classes
                                                : search.find_closest<false>();
  }
  __syncwarp();
#pragma unroll 1
  for (int32_t k = lane(); k < count; k += 32) {
    const SharedBucket::Words& found = search.buckets[k + 1];
    keys[k] = closer_key(value_of(found.closest), found.row);
  }
  far = rule.fallback == Fallback::kFarthest ? warp_max(far) : -1.0f;
  farthest = far >= 0 ? search.find_farthest(far) : kNoKey;
  __syncwarp();
  const Winners<float> bucket{keys, nullptr};
  choose_buckets<true>(rule, margin, count, positives, buckets, bucket, farthest != kNoKey,
                       shared.winning + slot, choices);
  __syncwarp();
  return {count, buckets, positives, choices, bucket, {&farthest, nullptr}};
}

template <int kAnchors>
__global__ void __launch_bounds__(kThreads, 1)
    select_small(const Batch batch, const TripletRule rule, const float margin,
                 const SelectionArrays<float> to, const SmallLosses<float> losses) {
  const PushBits& pushes = losses.edges.pushes;
  const int32_t words = pushes.words == nullptr ? 0 : pushes.row_words;
  const Shared shared(dynamic_shared_memory(), batch, kAnchors, words);
  const Pairs<float>& pairs = batch.pairs;
  const int warp = int(threadIdx.x) / 32, units = batch.units();
  const int32_t first_anchor = int32_t(blockIdx.x) * kAnchors;
#pragma unroll 1
  for (int32_t k = int32_t(threadIdx.x); k < units * kAnchors; k += kThreads) {
    const int32_t i = first_anchor + k % kAnchors;
    shared.anchors[k] = i < pairs.anchors.count
                            ? batch.anchors[interleaved_unit(i, k / kAnchors, units)]
                            : float4{0, 0, 0, 0};
  }
#pragma unroll 1
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kThreads) shared.pushes[k] = 0;
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
  __syncthreads();
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
  if (warp < kAnchors && i < pairs.anchors.count) {
    uint64_t farthest;
    const AnchorChoices<float> found =
        select_anchor(batch, shared, warp, i, rule, margin, farthest);
    const int64_t offset = batch.slots.offset[i];
    if (losses.wanted) {
      anchor_loss(i, pairs, offset, int32_t(batch.slots.offset[i + 1] - offset), found, losses,
                  shared.slopes + int64_t(warp) * batch.most_slots, [&](uint32_t row) {
                    if (words > 0) mark_push(shared.pushes, row, warp);
                  });
    } else {
      if (lane() == 0) {
        to.bucket_count[i] = found.buckets;
        to.farthest.key[i] = farthest;
      }
      for (int32_t k = lane(); k < found.count; k += 32) {
        to.d_ap[offset + k] = found.d_ap[k];
        to.choice[offset + k] = found.choice[k];
        to.bucket.key[offset + k] = found.bucket.key[k];
      }
    }
  }
  if (!losses.wanted) return;
  __syncthreads();
#pragma unroll 1
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kThreads) {
    pushes.words[int64_t(blockIdx.x) * words + k] = shared.pushes[k];
  }
  // The last block to be done adds up all anchors. Barriers of the block extend the order of this
  // one thread's fences to the others.
  __shared__ bool last;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(losses.blocks_done, 1) + 1 == int(gridDim.x);
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  reduce_by_block<kThreads>(losses.sums, pairs.anchors.count, losses.reduction);
}

struct Shape {
  int anchors;  // of a block; 0: it does not suit
  size_t bytes;
};

// The fewest anchors of a block with which all blocks run at once, or else the most that fit.
Shape shape_of(const Device& device, const Batch& batch, int32_t row_words) {
  Shape shape{0, 0};
  for (const int anchors : {4, 8, 14, 16}) {
    const Shared shared(nullptr, batch, anchors, row_words);
    if (shared.bytes + kStaticBytes > device.shared_bytes()) break;
    shape = {anchors, size_t(shared.bytes)};
    if (batch.pairs.anchors.count <= int64_t(anchors) * device.processors()) break;
  }
  return shape;
}

Batch batch_of(const SmallSearch& search) {
  return {search.pairs,
          search.slots,
          reinterpret_cast<const float4*>(search.anchors),
          reinterpret_cast<const float4*>(search.candidates),
          int32_t(search.most_slots),
          room_for(search.most_slots)};
}

}  // namespace

int anchors_of_small_blocks(const Device& device, const SmallSearch& search) {
  if (search.anchors == nullptr) return 0;
  return shape_of(device, batch_of(search), PushBits::words_for(search.pairs.candidates.count))
      .anchors;
}

void search_small(const Device& device, const SmallSearch& search, const TripletRule& rule,
                  const SelectionArrays<float>& to, const SmallLosses<float>& losses) {
  const Batch batch = batch_of(search);
  const Shape shape = shape_of(device, batch, PushBits::words_for(search.pairs.candidates.count));
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
