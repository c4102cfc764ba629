// The selection of a small batch in one kernel, for there the launches of several take longest.
//
// A block has 16 anchors and meets all candidates, 512 at a time. All threads compute the distances
// of these, by differences, into shared memory. Then warp w takes those of anchor w: positives
// become its thresholds, negatives compete for the keys of its buckets, and at last each slot
// chooses. What one warp owns needs no atomics in global memory, and exact distances no second
// look.
//
// The first candidates are those of the anchors' own classes, which the sorted anchors have side by
// side, so that thresholds are there before any negative is met.
#include "cuda/launch.h"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"
#include "cuda/search.h"
#include "cuda/selection.cuh"

namespace facenet::cuda {
namespace {

constexpr int kAnchors = 16;
constexpr int kThreads = 32 * kAnchors;
constexpr int kColumns = 512;  // candidates at a time: one that each thread brings
constexpr int kDepth = 16;     // columns of the embeddings at a time

// Shared memory. Behind it, for each anchor: keys, thresholds and winning buckets.
struct Shared {
  union {
    float candidates[kDepth][kColumns];
    float distances[kAnchors][kColumns];  // once all depths of the candidates are read
  };
  float anchors[kDepth][kAnchors];
  bool zero_candidates[kColumns];  // rows of zeros, of the cosine
  bool zero_anchors[kAnchors];
};

// Thresholds of an anchor that there is room for, a power of two and more than there are.
constexpr int32_t kLeastRoom = 64;
__host__ __device__ int64_t room_for(int64_t most_thresholds) {
  int64_t room = kLeastRoom;
  while (room <= most_thresholds) room *= 2;
  return room;
}

int64_t shared_bytes(int64_t most_thresholds) {
  const int64_t each = most_thresholds * int64_t(sizeof(uint64_t) + sizeof(int32_t)) +
                       room_for(most_thresholds) * int64_t(sizeof(float));
  return int64_t(sizeof(Shared)) + kAnchors * each;
}

// A row of one side, which a thread brings to shared memory.
struct Source {
  const Rows<float>& rows;
  int32_t row = 0;
  float factor = 0;
  bool there, zero = false;

  __device__ Source(const Rows<float>& rows_, int32_t position, bool there_)
      : rows(rows_), there(there_) {
    if (!there) return;
    row = rows.row(position);
    factor = rows.factor(row);
    zero = rows.is_zero(row);
  }
  __device__ void load(int32_t k, float (&x)[8]) const {
    if (there) return load_columns(rows, row, k, factor, x);
#pragma unroll
    for (int v = 0; v < 8; ++v) x[v] = 0;
  }
};

// The candidates in the order in which a block meets them: from those of its classes on, and round.
struct Round {
  int32_t begin, count;
  __device__ int32_t position(int32_t at) const {
    return at < count - begin ? begin + at : at - (count - begin);
  }
};

// Of one column of four rows on either side.
__device__ __forceinline__ void add_squares(const float* a, const float* b,
                                            float (&squares)[4][4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float difference = a[r] - b[c];
      squares[r][c] = fmaf(difference, difference, squares[r][c]);
    }
  }
}

// By all threads: the distances of the block's anchors and the candidates round.position(first)
// and so on. A thread has 4 x 4 of them: the anchors 4 (warp % 4), the candidates 128 (warp / 4) +
// 4 lane, and the next. Begins and ends with a barrier.
__device__ void find_distances(const Pairs<float>& pairs, int32_t first_anchor, const Round& round,
                               int32_t first, Shared& shared) {
  const int thread = int(threadIdx.x), warp = thread / 32;
  const int my_anchor = 4 * (warp % 4), my_column = 128 * (warp / 4) + 4 * lane();
  const bool any = first + 128 * (warp / 4) < round.count;          // for the whole warp
  const int brought = thread % kAnchors, half = thread / kAnchors;  // by the first warp
  const Source candidate(pairs.candidates, round.position(first + thread),
                         first + thread < round.count);
  const Source anchor(pairs.anchors, first_anchor + brought,
                      half < 2 && first_anchor + brought < pairs.anchors.count);
  float squares[4][4] = {};
  float x[kDepth / 8][8], a[8];  // of the next depth
  const auto load = [&](int32_t k) {
#pragma unroll
    for (int part = 0; part < kDepth / 8; ++part) candidate.load(k + 8 * part, x[part]);
    if (half < 2) anchor.load(k + 8 * half, a);
  };
  load(0);
  __syncthreads();  // the last distances are read no more
  shared.zero_candidates[thread] = candidate.zero;
  if (half < 1) shared.zero_anchors[brought] = anchor.zero;
  int32_t k0 = 0;
  do {
#pragma unroll
    for (int k = 0; k < kDepth; ++k) shared.candidates[k][thread] = x[k / 8][k % 8];
    if (half < 2) {
#pragma unroll
      for (int k = 0; k < 8; ++k) shared.anchors[8 * half + k][brought] = a[k];
    }
    __syncthreads();
    k0 += kDepth;
    if (k0 < pairs.anchors.dim) load(k0);
    if (any) {
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        add_squares(shared.anchors[k] + my_anchor, shared.candidates[k] + my_column, squares);
      }
    }
    __syncthreads();
  } while (k0 < pairs.anchors.dim);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const bool zero = shared.zero_anchors[my_anchor + r] || shared.zero_candidates[my_column + c];
      shared.distances[my_anchor + r][my_column + c] =
          distance_or_one(pairs.anchors.distance, squares[r][c], zero);
    }
  }
  __syncthreads();
}

// For each of n values, how many of the ascending thresholds are below it. They take their steps
// together. thresholds [room]
template <int n>
__device__ __forceinline__ void count_below_each(const float* thresholds, int32_t room,
                                                 const float (&values)[n], int32_t (&below)[n]) {
  const auto step = [&](int32_t half) {
#pragma unroll
    for (int v = 0; v < n; ++v) below[v] += thresholds[below[v] + half - 1] < values[v] ? half : 0;
  };
#pragma unroll
  for (int v = 0; v < n; ++v) below[v] = 0;
  for (int32_t half = room / 2; half >= kLeastRoom; half /= 2) step(half);
#pragma unroll
  for (int32_t half = kLeastRoom / 2; half > 0; half /= 2) step(half);
}

// What a warp knows of its anchor.
struct Anchor {
  int32_t i, count;  // slots; 0: the anchor takes no part
  int64_t offset;
  int32_t class_begin, class_end;
  int32_t buckets = 0;
  uint64_t farthest = kNoKey;  // of this lane
  uint64_t* key;               // [buckets] in shared memory, as are
  float* threshold;            // [room] ascending, infinite behind the last
  int32_t room;

  // By a warp: negatives compete for the buckets, and for the farthest.
  __device__ void meet(const Pairs<float>& pairs, const Round& round, int32_t first,
                       const float* distances, bool semihard, bool wants_farthest) {
    constexpr int kEach = 4;  // of a lane at a time
    if (buckets == 0) return;
    const int32_t there = min(kColumns, round.count - first);
    const int32_t own_class = class_begin - round.begin - first;
    for (int32_t base = lane(); base < there; base += 32 * kEach) {
      float d[kEach];
      int32_t bucket[kEach];
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        const int32_t c = base + 32 * v;
        const bool is_own = c >= own_class && c < own_class + (class_end - class_begin);
        d[v] = c < there && !is_own ? distances[c] : NAN;
      }
      if (semihard) count_below_each(threshold, room, d, bucket);
#pragma unroll
      for (int v = 0; v < kEach; ++v) {
        const uint32_t bits = bits_of(d[v]);
        const int32_t k = semihard ? bucket[v] - 1 : 0;
        const bool closer =
            d[v] == d[v] && k >= 0 && bits <= uint32_t(load_relaxed(key + max(k, 0)) >> 32);
        const bool farther = d[v] == d[v] && wants_farthest && ~bits <= uint32_t(farthest >> 32);
        if (!(closer | farther)) continue;
        const uint32_t row = uint32_t(pairs.candidates.row(round.position(first + base + 32 * v)));
        if (closer) offer_key(key + k, closer_key(d[v], row));
        if (farther) farthest = min(farthest, farther_key(d[v], row));
      }
    }
  }
};

__global__ void __launch_bounds__(kThreads, 1)
    select_small(const Pairs<float> pairs, const Slots slots, const int32_t most_thresholds,
                 const int32_t room, const TripletRule rule, const float margin,
                 const SelectionArrays<float> to) {
  Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared_memory());
  uint64_t* const keys = reinterpret_cast<uint64_t*>(&shared + 1);
  float* const thresholds = reinterpret_cast<float*>(keys + kAnchors * most_thresholds);
  int32_t* const winning = reinterpret_cast<int32_t*>(thresholds + kAnchors * room);
  const int warp = int(threadIdx.x) / 32;
  const int32_t first_anchor = int32_t(blockIdx.x) * kAnchors;
  const int32_t last_anchor = min(first_anchor + kAnchors, pairs.anchors.count) - 1;
  const bool there = first_anchor + warp <= last_anchor;
  Anchor own;
  own.i = there ? first_anchor + warp : last_anchor;
  own.count = there ? slots.count[own.i] : 0;
  own.offset = slots.offset[own.i];
  own.class_begin = pairs.class_begin[own.i];
  own.class_end = pairs.class_end[own.i];
  own.key = keys + warp * most_thresholds;
  own.threshold = thresholds + warp * room;
  own.room = room;
  float* const d_ap = to.d_ap + own.offset;
  int32_t* const choice = to.choice + own.offset;

  const bool any = __syncthreads_or(own.count > 0) != 0;
  const Round round{pairs.class_begin[first_anchor], any ? pairs.candidates.count : 0};
  const int32_t of_classes = any ? pairs.class_end[last_anchor] - round.begin : 0;
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  const bool wants_farthest = rule.fallback == Fallback::kFarthest;
  // Tiles of the classes, then all tiles. Where the classes need one tile it is not repeated.
  const int32_t class_tiles = (of_classes + kColumns - 1) / kColumns;
  const int32_t repeated = class_tiles > 1 ? class_tiles : 0;
  const int32_t steps = repeated + (round.count + kColumns - 1) / kColumns;
  for (int32_t step = 0; step < steps; ++step) {
    const int32_t first = (step < class_tiles ? step : step - repeated) * kColumns;
    find_distances(pairs, first_anchor, round, first, shared);
    if (step < class_tiles) {
      const int32_t begin = own.class_begin - round.begin - first;
      for (int32_t k = lane(); k < own.count; k += 32) {
        if (begin + k < 0 || begin + k >= kColumns) continue;
        d_ap[k] =
            pairs.excluded(own.i, own.class_begin + k) ? NAN : shared.distances[warp][begin + k];
      }
      if (step + 1 < class_tiles) continue;
      __syncwarp();
      own.buckets = rank_positives(pairs, own.i, rule, own.count, d_ap, choice, own.threshold);
      for (int32_t k = lane(); k < own.buckets; k += 32) own.key[k] = kNoKey;
      if (semihard) {
        for (int32_t k = own.buckets + lane(); k < room; k += 32) own.threshold[k] = INFINITY;
      }
      __syncwarp();
      if (repeated > 0) continue;
    }
    own.meet(pairs, round, first, shared.distances[warp], semihard, wants_farthest);
  }
  __syncwarp();
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    own.farthest = min(own.farthest, __shfl_xor_sync(kAllLanes, own.farthest, apart));
  }
  if (!there) return;
  if (lane() == 0) {
    to.bucket_count[own.i] = own.buckets;
    to.farthest.key[own.i] = own.farthest;
  }
  for (int32_t k = lane(); k < own.buckets; k += 32) to.bucket.key[own.offset + k] = own.key[k];
  const Winners<float> bucket{own.key, nullptr};
  choose_buckets(rule, margin, own.count, d_ap, own.buckets, bucket, own.farthest != kNoKey,
                 winning + warp * most_thresholds, choice);
}

}  // namespace

bool suits_search_small(const Device& device, const Pairs<float>& pairs, int64_t most_thresholds) {
  return is_small(device, pairs.anchors, pairs.candidates) &&
         shared_bytes(most_thresholds) <= device.shared_bytes();
}

void search_small(const Device& device, const Pairs<float>& pairs, const Slots& slots,
                  int64_t most_thresholds, const TripletRule& rule,
                  const SelectionArrays<float>& to) {
  const int64_t blocks = (int64_t(pairs.anchors.count) + kAnchors - 1) / kAnchors;
  launch("select_small", sizes_of(pairs).with("slots", to.slots), device.stream(),
         {unsigned(blocks), kThreads, size_t(shared_bytes(most_thresholds))}, select_small, pairs,
         slots, int32_t(most_thresholds), int32_t(room_for(most_thresholds)), rule,
         float(rule.margin), to);
}

}  // namespace facenet::cuda
