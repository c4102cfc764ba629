// random: a negative drawn for each of an anchor's positives. What is drawn: semantics/random.h.
//
// A *key* for each slot in global memory decides, by an atomic minimum. The thread reads the key's
// upper half first, which rejects nearly every pair: of N negatives about ln N improve on those
// before. The words and the distances or weights of a thread's 8 columns stay in registers for all
// positives of a row.
//
// Shared memory: one word per row of the tile.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/pair_stream.cuh"
#include "cuda/slots.cuh"
#include "cuda/warp.cuh"
#include "semantics/random.h"

namespace facenet::cuda {

template <class T>
struct RandomArguments {
  Slots slots;
  const T* d_ap;                  // [slots] NaN: the slot takes no part
  const uint32_t* positive_word;  // [slots]
  uint64_t* key;                  // [slots] kNoKey at first
  Seed seed;
  bool semihard;            // of the uniform rules
  T margin;                 // of the uniform rules
  DistanceWeights weights;  // of the weighted rule
};

// Which of a row's 8 columns are ahead of the key of a slot, and their priorities.
//
// kRowsAtOnce: how far the loop over a thread's 8 rows is unrolled. A weight takes some 140
// instructions; those of all 64 pairs would be 140 KiB of code, which no instruction cache holds.
// Rolled, the loop takes 7 selects more for each pair.
template <class T>
struct UniformDraws {
  static constexpr int kRowsAtOnce = 8;

  T d[8];

  __device__ UniformDraws(const RandomArguments<T>&) {}
  __device__ void set(int c, bool counts, Distance, T distance) {
    d[c] = counts ? distance : T(NAN);
  }
  __device__ uint32_t ahead(const RandomArguments<T>& a, T d_ap, uint32_t best,
                            const uint32_t (&word)[8], uint32_t positive) const {
    const Interval<T> in = qualifying(a.semihard, d_ap, a.margin);
    uint32_t columns = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const bool is_ahead = draw(word[c], positive) <= best && d[c] > in.low && d[c] < in.high;
      columns |= uint32_t(is_ahead) << c;
    }
    return columns;
  }
  __device__ uint32_t priority(int, uint32_t drawn) const { return drawn; }
};

template <class T>
struct WeightedDraws {
  static constexpr int kRowsAtOnce = 1;

  const DistanceWeights weights;
  float log_weight[8];

  __device__ WeightedDraws(const RandomArguments<T>& a) : weights(a.weights) {}
  __device__ void set(int c, bool counts, Distance kind, T distance) {
    const float d = euclidean(kind, distance);
    log_weight[c] = counts && d < weights.beyond ? facenet::log_weight(d, weights) : -INFINITY;
  }
  __device__ uint32_t ahead(const RandomArguments<T>&, T, uint32_t best, const uint32_t (&word)[8],
                            uint32_t positive) const {
    const float score = priority_score(best);
    uint32_t columns = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const float bits = draw_bits(draw(word[c], positive));
      const bool is_ahead = score_bound(score_allowance(log_weight[c]), bits) > score;
      columns |= uint32_t(is_ahead) << c;
    }
    return columns;
  }
  __device__ uint32_t priority(int c, uint32_t drawn) const {
    return score_priority(race_score(pick(log_weight, c), drawn));
  }
};

template <class T, class Draws>
class RandomEpilogue {
 public:
  using Arguments = RandomArguments<T>;

  __host__ __device__ static constexpr int shared_bytes(int rows) {
    return rows * int(sizeof(uint32_t));
  }
  __device__ RandomEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to), pairs_(pairs), anchor_word_(reinterpret_cast<uint32_t*>(shared)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    first_anchor_ = first_anchor;
    bool any = false;
    for (int row = int(threadIdx.x); row < Loop::kTileRows; row += Loop::kThreads) {
      const int32_t i = first_anchor + row;
      if (i >= pairs_.anchors.count) continue;
      any = any || to_.slots.count[i] > 0;
      const uint32_t anchor = uint32_t(pairs_.anchors.row(i));
      anchor_word_[row] = anchor_words(to_.seed, anchor).negatives;
    }
    return __syncthreads_or(any) != 0;
  }

  template <class Loop>
  __device__ void consume(int32_t first_candidate, const ThreadTile<T>& tile) {
    const int32_t n = pairs_.candidates.count;
    uint32_t row_of[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const int32_t j = first_candidate + Loop::tile_column(c);
      row_of[c] = j < n ? uint32_t(pairs_.candidates.row(j)) : 0;
    }
#pragma unroll Draws::kRowsAtOnce
    for (int r = 0; r < 8; ++r) {
      const int32_t i = first_anchor_ + Loop::tile_row(r);
      if (i >= pairs_.anchors.count) continue;
      const int32_t count = to_.slots.count[i];
      if (count == 0) continue;
      const int32_t class_begin = pairs_.class_begin[i], class_end = pairs_.class_end[i];
      const uint32_t anchor = anchor_word_[Loop::tile_row(r)];
      uint32_t word[8];
      Draws draws(to_);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int32_t j = first_candidate + Loop::tile_column(c);
        const bool counts = j < n && (j < class_begin || j >= class_end);
        T d = tile.d[0][c];
#pragma unroll
        for (int v = 1; v < 8; ++v) d = r == v ? tile.d[v][c] : d;
        draws.set(c, counts, pairs_.anchors.distance, d);
        word[c] = row_word(anchor, row_of[c]);
      }
      const int64_t offset = to_.slots.offset[i];
#pragma unroll 1
      for (int64_t slot = offset; slot < offset + count; ++slot) {
        const T d_ap = to_.d_ap[slot];
        if (!(d_ap == d_ap)) continue;
        const uint32_t positive = to_.positive_word[slot];
        const uint32_t best = uint32_t(load_relaxed(to_.key + slot) >> 32);
        uint32_t columns = draws.ahead(to_, d_ap, best, word, positive);
#pragma unroll 1
        for (; columns != 0; columns &= columns - 1) {
          const int c = __ffs(int(columns)) - 1;
          const uint32_t priority = draws.priority(c, draw(pick(word, c), positive));
          offer_key(to_.key + slot, random_key(priority, pick(row_of, c)));
        }
      }
    }
  }

 private:
  const Arguments& to_;
  const Pairs<T>& pairs_;
  uint32_t* anchor_word_;
  int32_t first_anchor_ = 0;
};

}  // namespace facenet::cuda
