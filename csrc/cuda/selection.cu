#include <algorithm>
#include <cmath>

#include "cuda/distances.h"
#include "cuda/epilogues/extremum.cuh"
#include "cuda/labelled_batch.h"
#include "cuda/launch.h"
#include "cuda/pair_tile.cuh"
#include "cuda/ptx.cuh"
#include "cuda/search.h"
#include "cuda/search_small.h"
#include "cuda/selection.cuh"
#include "semantics/successor.h"

namespace facenet::cuda {
namespace {

// Passes over the candidates: double needs two, since its distance fills a word and the index needs
// another.
template <class T>
constexpr int kPasses = sizeof(T) == 4 ? 1 : 2;

// A warp per anchor: its positive distances in ascending order are its thresholds.
//   d_ap [slots] -> rank (in place of the choice), threshold, bucket_count, keys (none yet)
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    rank_thresholds(const Pairs<T> pairs, const Slots slots, const TripletRule rule,
                    const SearchArrays<T> work, const SelectionArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int64_t offset = slots.offset[i];
  const int32_t count = slots.count[i];
  if (i == 0 && lane() == 0) *work.repeat_count = 0;
  if (lane() == 0) to.farthest.key[i] = kNoKey;
  for (int32_t k = lane(); k < count; k += 32) {
    to.bucket.key[offset + k] = kNoKey;
    if (work.by_products) work.decided_key[offset + k] = kNoKey;
  }
  const int32_t buckets = rank_positives(pairs, int32_t(i), rule, count, to.d_ap + offset,
                                         to.choice + offset, work.threshold + offset);
  if (lane() == 0) to.bucket_count[i] = buckets;
}

// Measures the winners of a search by products again, by differences, and lets them compete with
// the undecided pairs, which have been measured. Where one is not beyond its threshold after all,
// the anchor's keys are cleared and its search is repeated.
__global__ void __launch_bounds__(kBlock, 2)
    verify_winners(const Pairs<float> pairs, const Slots slots, const bool semihard,
                   const SearchArrays<float> work, const SelectionArrays<float> to,
                   const Guard guard) {
  if (!guard.open()) return;
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int64_t offset = slots.offset[i];
  const int32_t count = to.bucket_count[i];
  const int32_t row = pairs.anchors.row(int32_t(i));
  bool good = true;
  for (int32_t k = lane(); k < count; k += 32) {
    uint64_t key = kNoKey;
    if (to.bucket.has(offset + k)) {
      const uint32_t negative = to.bucket.row(offset + k);
      const float d = row_distance(pairs.anchors, row, pairs.candidates, int32_t(negative));
      key = closer_key(d, negative);
      good = good && (!semihard || d > work.threshold[offset + k]);
    }
    to.bucket.key[offset + k] = min(key, work.decided_key[offset + k]);
  }
  good = __all_sync(kAllLanes, good) != 0;
  if (lane() == 0 && to.farthest.has(i)) {
    const uint32_t negative = to.farthest.row(i);
    const float d = row_distance(pairs.anchors, row, pairs.candidates, int32_t(negative));
    to.farthest.key[i] = farther_key(d, negative);
  }
  if (good) return;
  for (int32_t k = lane(); k < count; k += 32) to.bucket.key[offset + k] = kNoKey;
  if (lane() == 0) {
    to.farthest.key[i] = kNoKey;
    work.to_repeat[atomicAdd(work.repeat_count, 1)] = int32_t(i);
  }
}

template <class T>
__device__ void offer(const Winners<T>& to, int64_t at, bool farthest, T d, uint32_t index,
                      int pass) {
  if constexpr (sizeof(T) == 4) {
    offer_key(to.key + at, farthest ? farther_key(d, index) : closer_key(d, index));
  } else {
    const uint64_t bits = farthest ? farther_word(d) : bits_of(d);
    if (pass == 0) offer_key(to.key + at, bits);
    if (pass == 1 && bits == load_relaxed(to.key + at)) atomicMin(to.index + at, index);
  }
}

// The search by differences, a block per anchor: for the anchors whose search is repeated, or (with
// `all`, for double) for every anchor. Every other search has to find what this one finds.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    search_rows(const Pairs<T> pairs, const Slots slots, const bool semihard,
                const bool wants_farthest, const SearchArrays<T> work, const SelectionArrays<T> to,
                const bool all) {
  const int32_t rows = all ? pairs.anchors.count : *work.repeat_count;
  for (int32_t r = int32_t(blockIdx.x); r < rows; r += int32_t(gridDim.x)) {
    const int32_t i = all ? r : work.to_repeat[r];
    const int32_t count = to.bucket_count[i];
    if (count == 0) continue;
    const int64_t offset = slots.offset[i];
    const int32_t row = pairs.anchors.row(i);
    if constexpr (kPasses<T> == 2) {
      for (int32_t k = int32_t(threadIdx.x); k < count; k += kBlock) {
        to.bucket.index[offset + k] = ~0u;
      }
      if (threadIdx.x == 0) to.farthest.index[i] = ~0u;
    }
    for (int pass = 0; pass < kPasses<T>; ++pass) {
      __syncthreads();
      for (int32_t j = int32_t(threadIdx.x); j < pairs.candidates.count; j += kBlock) {
        if (j >= pairs.class_begin[i] && j < pairs.class_end[i]) continue;
        const int32_t candidate = pairs.candidates.row(j);
        const T d = row_distance(pairs.anchors, row, pairs.candidates, candidate);
        if (!(d == d)) continue;
        const int64_t bucket = semihard ? successor_bucket(work.threshold + offset, count, d) : 0;
        if (bucket >= 0) offer(to.bucket, offset + bucket, false, d, uint32_t(candidate), pass);
        if (wants_farthest) offer(to.farthest, i, true, d, uint32_t(candidate), pass);
      }
    }
  }
}

// A warp per anchor.   ranks, keys, d_ap [slots] -> winning_bucket, choice [slots]
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    choose(const Pairs<T> pairs, const Slots slots, const TripletRule rule, const T margin,
           const SearchArrays<T> work, const SelectionArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int64_t offset = slots.offset[i];
  choose_buckets(rule, margin, slots.count[i], to.d_ap + offset, to.bucket_count[i],
                 to.bucket.behind(offset), to.farthest.has(i), work.winning_bucket + offset,
                 to.choice + offset);
}

// `most_thresholds`: no anchor has more.
template <class T>
void select_triplets(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                     int64_t most_thresholds, const TripletRule& rule, const SearchPlan& plan,
                     const SearchArrays<T>& work, const SelectionArrays<T>& to) {
  const Sizes sizes = sizes_of(pairs).with("slots", to.slots);
  const cudaStream_t stream = device.stream();
  const bool semihard = rule.negatives == NegativeRule::kSemihard;
  const bool falls_back = rule.fallback == Fallback::kFarthest;
  const LaunchShape by_anchor{blocks_of_warps(pairs.anchors.count), kBlock};
  if (pairs.anchors.count == 0) return;

  find_positives(device, pairs, slots, to.d_ap);
  if (is_random(rule.negatives)) {
    search_random(device, pairs, slots, rule, work, to);
    return;
  }
  launch("rank_thresholds", sizes, stream, by_anchor, rank_thresholds<T>, pairs, slots, rule, work,
         to);
  if constexpr (sizeof(T) == 4) {
    search(device, pairs, slots, most_thresholds, rule, plan, work, to);
    if (plan.by_products) {
      launch("verify_winners", sizes, stream, by_anchor, verify_winners, pairs, slots, semihard,
             work, to, Guard{&plan.flags->needs_direct, 0});
      launch("search_rows", sizes, stream,
             {unsigned(std::min<int64_t>(4 * device.processors(), pairs.anchors.count)), kBlock},
             search_rows<T>, pairs, slots, semihard, falls_back, work, to, false);
    }
  } else {
    launch("search_rows", sizes, stream,
           {unsigned(std::min<int64_t>(1 << 16, pairs.anchors.count)), kBlock}, search_rows<T>,
           pairs, slots, semihard, falls_back, work, to, true);
  }
  launch("choose", sizes, stream, by_anchor, choose<T>, pairs, slots, rule, T(rule.margin), work,
         to);
}

// Measured one by one, as a lane does, pairs take some 20 times as long as by FmaLoop (predicted).
// So products serve as long as no more pairs than these are undecided, of rows at random.
#ifndef FACENET_MOST_UNDECIDED
#define FACENET_MOST_UNDECIDED 0.03
#endif

// Squared distances of normal rows of unit length have a density of at most sqrt(D / 8 pi) each,
// and the band around each threshold is 4 (products + differences) wide.
bool few_undecided(const SearchRounding& rounding, int32_t dim, int64_t thresholds) {
  const double band = 4.0 * (double(rounding.products) + double(rounding.differences));
  return double(thresholds) * band * std::sqrt(dim / 25.0) <= FACENET_MOST_UNDECIDED;
}

SmallSearch small_search(const LabelledBatch<float>& batch) {
  const InterleavedRows rows = batch.interleaved();
  return {batch.pairs,     batch.slots(),       rows.anchors,
          rows.candidates, batch.largest_class, rows.unfit};
}

template <class T>
SelectionArrays<T> selection_sizes(const LabelledBatch<T>& batch) {
  SelectionArrays<T> sizes;
  sizes.anchors = batch.pairs.anchors.count;
  sizes.slots = batch.slot_count;
  return sizes;
}

template <class T>
SearchArrays<T> search_sizes(const LabelledBatch<T>& batch, const TripletRule& rule) {
  SearchArrays<T> sizes;
  sizes.anchors = batch.pairs.anchors.count;
  sizes.slots = batch.slot_count;
  sizes.random = is_random(rule.negatives);
  sizes.by_products = batch.arrays().anchors.by_products;
  return sizes;
}

}  // namespace

template <class T>
void SearchArrays<T>::place(Workspace& w) {
  positive_word = w.take<uint32_t>(random ? slots : 0);
  drawn = w.take<uint64_t>(random ? slots : 0);
  if (random) return;
  threshold = w.take<T>(slots);
  winning_bucket = w.take<int32_t>(slots);
  to_repeat = w.take<int32_t>(anchors);
  repeat_count = w.take<int32_t>(1);
  decided_key = w.take<uint64_t>(by_products ? slots : 0);
}

template <class T>
void SelectionArrays<T>::place(Workspace& w) {
  constexpr bool kTwoWords = sizeof(T) == 8;
  d_ap = w.take<T>(slots);
  choice = w.take<int32_t>(slots);
  bucket_count = w.take<int32_t>(anchors);
  bucket = {w.take<uint64_t>(slots), kTwoWords ? w.take<uint32_t>(slots) : nullptr};
  farthest = {w.take<uint64_t>(anchors), kTwoWords ? w.take<uint32_t>(anchors) : nullptr};
}

template <class T>
int small_blocks(const LabelledBatch<T>& batch, const TripletRule& rule) {
  if constexpr (sizeof(T) == 4) {
    if (!is_random(rule.negatives)) {
      const SmallSearch search = small_search(batch);
      return search.anchors == nullptr ? 0 : anchors_of_small_blocks(batch.device, search.sizes());
    }
  }
  return 0;
}

template <class T>
Selection<T>::Selection(const LabelledBatch<T>& batch, const TripletRule& rule,
                        const SmallLosses<T>* losses)
    : arrays_(batch.device, losses == nullptr ? selection_sizes(batch) : SelectionArrays<T>()) {
  const Pairs<T>& pairs = batch.pairs;
  if constexpr (sizeof(T) == 4) {
    if (small_blocks(batch, rule) > 0) {
      search_small(batch.device, small_search(batch), rule, arrays_,
                   losses == nullptr ? SmallLosses<T>() : *losses);
      return;
    }
  }
  const bool one = rule.positives != PositiveRule::kAll;
  const int64_t most = one ? 1 : batch.largest_class - int64_t(pairs.self);
  const Scratch<SearchArrays<T>> work(batch.device, search_sizes(batch, rule));
  SearchPlan plan;
  plan.flags = batch.flags();
  if constexpr (sizeof(T) == 4) {
    plan.anchors = batch.arrays().anchors.packed;
    plan.candidates = batch.candidate_side().packed;
    plan.rounding = search_rounding(pairs.anchors.element, pairs.anchors.dim);
    plan.by_products = batch.arrays().anchors.by_products &&
                       (rule.negatives != NegativeRule::kSemihard ||
                        few_undecided(plan.rounding, pairs.anchors.dim, most));
    if (plan.by_products) {
      look_for_offset(batch.device, pairs.candidates, batch.arrays().partial, batch.flags());
    }
  }
  select_triplets<T>(batch.device, pairs, batch.slots(), most, rule, plan, work, arrays_);
}

template int small_blocks(const LabelledBatch<float>&, const TripletRule&);
template int small_blocks(const LabelledBatch<double>&, const TripletRule&);
template struct SearchArrays<float>;
template struct SearchArrays<double>;
template struct SelectionArrays<float>;
template struct SelectionArrays<double>;
template class Selection<float>;
template class Selection<double>;

}  // namespace facenet::cuda
