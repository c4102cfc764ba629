// The selection of a small batch in one kernel, for there the launches of several take longest. It
// may end with the losses of the anchors and their sum.
//
// A block has a few anchors and meets all candidates. A warp measures 64 candidates at a time, by
// differences: lane l has candidates l and 32 + l, in registers, and all anchors of the block, from
// shared memory. So a candidate's column is loaded by one lane alone, and no warp waits for
// another before all distances are there. Then warp w takes those of anchor w: positives become its
// thresholds, negatives compete for its buckets, and each slot chooses. What one warp owns needs no
// atomics in global memory, and exact distances no second look.
#include "cuda/anchor_loss.cuh"
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
constexpr int kEach = 4;               // distances that a lane looks at together

struct Batch {
  Pairs<float> pairs;
  Slots slots;
  const float4 *anchors, *candidates;  // interleaved
  int32_t most_slots;                  // no anchor has more
  int32_t room;                        // for its thresholds: room_for(most_slots)

  __host__ __device__ int32_t units() const { return units_of(pairs.anchors.dim); }
  // Candidates, filled up.
  __host__ __device__ int32_t pitch() const {
    return int32_t(interleaved_rows(pairs.candidates.count));
  }
};

// A power of two, and more than there are.
constexpr int32_t kLeastRoom = 64;
int32_t room_for(int64_t thresholds) {
  int64_t room = kLeastRoom;
  while (room <= thresholds) room *= 2;
  return int32_t(room);
}

// A block's shared memory; [i] is that of anchor i.
struct Shared {
  float4* anchors;    // [units][anchors]
  uint64_t* keys;     // [1 + most_slots] each, with the distance above; the first is no bucket's
  float* distances;   // [pitch] each
  uint32_t* rows;     // [pitch] of the candidates
  uint8_t* below;     // [pitch] each: the thresholds below a distance, where so many are counted
  float* thresholds;  // [room] each, ascending, infinite behind the last
  float* positives;   // [most_slots] each
  float* slopes;      // [most_slots] each
  int32_t* choices;   // [most_slots] each
  int32_t* winning;   // [most_slots] each
  uint32_t* pushes;   // [row_words]: see PushBits
  int64_t bytes;

  __host__ __device__ Shared(unsigned char* begin, const Batch& batch, int anchors_,
                             int32_t row_words) {
    unsigned char* next = begin;
    const int64_t slots = int64_t(anchors_) * batch.most_slots;
    anchors = take<float4>(next, int64_t(batch.units()) * anchors_);
    keys = take<uint64_t>(next, slots + anchors_);  // `anchors_` is even: what follows is aligned
    distances = take<float>(next, int64_t(anchors_) * batch.pitch());
    rows = take<uint32_t>(next, batch.pitch());
    below = take<uint8_t>(next, int64_t(anchors_) * batch.pitch());
    thresholds = take<float>(next, int64_t(anchors_) * batch.room);
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

// By a warp: the distances of the block's anchors and of 32 kEach candidates, from 32 `half` on.
template <int kAnchors, int kEach>
__device__ void measure(const Batch& batch, const Shared& shared, int32_t first_anchor,
                        int32_t half) {
  const int32_t units = batch.units();
  const float4* from = batch.candidates + interleaved_unit(32 * half, 0, units) + lane();
  const float4* anchors = shared.anchors;
  float squares[kAnchors][kEach] = {};
  const auto add = [&](const float4(&x)[kEach]) {
#pragma unroll
    for (int a = 0; a < kAnchors; ++a) {
      const float4 y = anchors[a];
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        float& sum = squares[a][e];
        sum = fmaf(y.x - x[e].x, y.x - x[e].x, sum);
        sum = fmaf(y.y - x[e].y, y.y - x[e].y, sum);
        sum = fmaf(y.z - x[e].z, y.z - x[e].z, sum);
        sum = fmaf(y.w - x[e].w, y.w - x[e].w, sum);
      }
    }
    anchors += kAnchors;
  };
  float4 next[kEach];  // is under way while its predecessor is added
#pragma unroll
  for (int e = 0; e < kEach; ++e) next[e] = from[32 * e];
#pragma unroll 2
  for (int32_t unit = 1; unit < units; ++unit) {
    from += kGroupRows;
    float4 x[kEach];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      x[e] = next[e];
      next[e] = from[32 * e];
    }
    add(x);
  }
  add(next);
  const Rows<float>&rows = batch.pairs.anchors, &others = batch.pairs.candidates;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int32_t column = 32 * (half + e) + lane();
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

// For each of kEach values, how many of the ascending thresholds [room] are below it. They take
// their steps together: a load, a comparison and an addition each.
__device__ __forceinline__ void count_below_each(const float* thresholds, int32_t room,
                                                 const float (&values)[kEach],
                                                 uint32_t (&below)[kEach]) {
  const SharedPlace first(thresholds);
  SharedPlace from[kEach] = {first, first, first, first};
  const auto step = [&](int32_t half) {
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      if (from[v].behind(half - 1) < values[v]) from[v].move(half);
    }
  };
  for (int32_t half = room / 2; half >= kLeastRoom; half /= 2) step(half);  // of large classes
#pragma unroll
  for (int32_t half = kLeastRoom / 2; half > 0; half /= 2) step(half);
#pragma unroll
  for (int v = 0; v < kEach; ++v) below[v] = from[v] - first;
}

// The distances of an anchor, as its warp goes through them: each lane has kEach side by side.
struct Search {
  const float* distances;  // [pitch] NaN: no negative
  uint8_t* counts;         // [pitch]
  int32_t pitch;
  const float* thresholds;  // [room]
  int32_t room;
  bool semihard;

  // Whether a count is kept in a byte, so that it is there when it is asked for once more.
  __device__ bool keeps() const { return room <= 256; }

  __device__ void load(int32_t base, float (&d)[kEach]) const {
    const float4 x = *reinterpret_cast<const float4*>(distances + base);
    d[0] = x.x, d[1] = x.y, d[2] = x.z, d[3] = x.w;
  }

  // Thresholds below each: its bucket and one. 0 is none.
  __device__ void count(const float (&d)[kEach], uint32_t (&below)[kEach]) const {
    if (semihard) return count_below_each(thresholds, room, d, below);
#pragma unroll
    for (int v = 0; v < kEach; ++v) below[v] = d[v] == d[v];
  }

  __device__ void keep(int32_t base, const uint32_t (&below)[kEach]) const {
    *reinterpret_cast<uint32_t*>(counts + base) =
        below[0] | below[1] << 8 | below[2] << 16 | below[3] << 24;
  }

  // What keep() was given.
  __device__ void kept(int32_t base, uint32_t (&below)[kEach]) const {
    const uint32_t all = *reinterpret_cast<const uint32_t*>(counts + base);
#pragma unroll
    for (int v = 0; v < kEach; ++v) below[v] = all >> 8 * v & 255;
  }
};

// By a warp: all that it has to find for its anchor, from the distances to all candidates.
//   keys, choices -> those of SelectionArrays. Returns the buckets, and the farthest's key.
__device__ AnchorChoices<float> select_anchor(const Batch& batch, const Shared& shared, int a,
                                              int32_t i, const TripletRule& rule, float margin,
                                              uint64_t& farthest) {
  const Pairs<float>& pairs = batch.pairs;
  const int32_t count = batch.slots.count[i], begin = pairs.class_begin[i];
  const int32_t pitch = batch.pitch(), room = batch.room;
  const int64_t slot = int64_t(a) * batch.most_slots;
  float* const distances = shared.distances + a * pitch;
  float* const thresholds = shared.thresholds + a * room;
  float* const positives = shared.positives + slot;
  int32_t* const choices = shared.choices + slot;
  uint64_t* const keys = shared.keys + slot + a + 1;
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  for (int32_t k = lane(); k < count; k += 32) {
    positives[k] = pairs.excluded(i, begin + k) ? NAN : distances[begin + k];
    distances[begin + k] = NAN;  // no negative
    keys[k] = kNoKey;
  }
  for (int32_t c = pairs.candidates.count + lane(); c < pitch; c += 32) distances[c] = NAN;
  __syncwarp();
  const int32_t buckets = rank_positives(pairs, i, rule, count, positives, choices, thresholds);
  if (semihard) {
    for (int32_t k = buckets + lane(); k < room; k += 32) thresholds[k] = INFINITY;
  }
  __syncwarp();

  // The halves of a key: the closest distance first, then of its candidates the first row. Below
  // the thresholds nothing is closer than what is there.
  uint32_t* const first = reinterpret_cast<uint32_t*>(keys - 1);
  uint32_t* const closest = first + 1;  // of bucket b: closest[2 * (b + 1)]
  float far = -1;
  farthest = kNoKey;
  if (buckets > 0) {
    const Search search{distances, shared.below + a * pitch, pitch, thresholds, room, semihard};
    if (lane() == 0) *closest = 0;
    __syncwarp();
#pragma unroll 1
    for (int32_t base = kEach * lane(); base < pitch; base += 32 * kEach) {
      float d[kEach];
      uint32_t below[kEach];
      search.load(base, d);
      search.count(d, below);
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        far = fmaxf(far, d[v]);
        uint32_t* const to = closest + 2 * below[v];
        if (bits_of(d[v]) < load_relaxed(to)) atomicMin(to, bits_of(d[v]));
      }
      if (search.keeps()) search.keep(base, below);
    }
    far = rule.fallback == Fallback::kFarthest ? warp_max(far) : -1.0f;
    __syncwarp();
    if (lane() == 0) *closest = ~0u;  // and no distance
    __syncwarp();
    uint32_t far_row = ~0u;
#pragma unroll 1
    for (int32_t base = kEach * lane(); base < pitch; base += 32 * kEach) {
      float d[kEach];
      uint32_t below[kEach];
      search.load(base, d);
      if (search.keeps()) {
        search.kept(base, below);
      } else {
        search.count(d, below);  // once more
      }
      bool wins[kEach], any = false;
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        wins[v] = bits_of(d[v]) == closest[2 * below[v]];
        any = any | wins[v] | (d[v] == far);
      }
      if (!any) continue;
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        const uint32_t row = shared.rows[base + v];
        if (wins[v]) atomicMin(first + 2 * below[v], row);
        if (d[v] == far) far_row = min(far_row, row);
      }
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
      far_row = min(far_row, __shfl_xor_sync(kAllLanes, far_row, apart));
    }
    if (far >= 0) farthest = farther_key(far, far_row);
    __syncwarp();
  }
  const Winners<float> bucket{keys, nullptr};
  choose_buckets(rule, margin, count, positives, buckets, bucket, farthest != kNoKey,
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
  for (int32_t k = int32_t(threadIdx.x); k < units * kAnchors; k += kThreads) {
    const int32_t i = first_anchor + k % kAnchors;
    shared.anchors[k] = i < pairs.anchors.count
                            ? batch.anchors[interleaved_unit(i, k / kAnchors, units)]
                            : float4{0, 0, 0, 0};
  }
  for (int32_t k = int32_t(threadIdx.x); k < words; k += kThreads) shared.pushes[k] = 0;
  for (int32_t c = int32_t(threadIdx.x); c < pairs.candidates.count; c += kThreads) {
    shared.rows[c] = uint32_t(pairs.candidates.row(c));
  }
  __syncthreads();
  // Two halves of a group for each warp, and what is left to as many warps as there are.
  const int32_t halves = (pairs.candidates.count + 31) / 32;
  int32_t first = 0;
  for (; first + 2 * kWarps <= halves; first += 2 * kWarps) {
    measure<kAnchors, 2>(batch, shared, first_anchor, first + 2 * warp);
  }
  const int32_t left = halves - first, both = max(left - kWarps, 0);
  if (warp < both) {
    measure<kAnchors, 2>(batch, shared, first_anchor, first + 2 * warp);  // the last ones
  } else if (both + warp < left) {
    measure<kAnchors, 1>(batch, shared, first_anchor, first + both + warp);
  }
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
