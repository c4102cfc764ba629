#include "cpu/selection.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "semantics/order.h"
#include "semantics/random.h"
#include "semantics/successor.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kAnchorGrain = 64;
constexpr int64_t kRankByCounting = 64;

// The kernels search tables whose size is a power of two.
int64_t padded_slots(int64_t count) {
  if (count <= 0) return 0;
  int64_t size = kSlotPad;
  while (size < count) size *= 2;
  return size;
}

template <class T>
void find_one_positive(const PairSet<T>& set, bool hardest, PositiveSlots<T>& s) {
  const int64_t anchors = set.anchors().count();
  const T worst = std::numeric_limits<T>::infinity();
  Buffer<T> distance(anchors);
  Buffer<int32_t> index(anchors);
  std::fill(distance.begin(), distance.end(), hardest ? -worst : worst);
  std::fill(index.begin(), index.end(), -1);
  kernels<T>().extreme_positives(set.pairs(), {distance.data(), index.data()}, hardest);
  s.offset[0] = 0;
  for (int64_t i = 0; i < anchors; ++i) {
    s.count[i] = index[i] >= 0;
    s.offset[i + 1] = s.offset[i] + padded_slots(s.count[i]);
  }
  s.positive = Buffer<int32_t>(s.offset[anchors]);
  s.d_ap = Buffer<T>(s.offset[anchors]);
  for (int64_t i = 0; i < anchors; ++i) {
    if (s.count[i] == 0) continue;
    s.positive[s.offset[i]] = index[i];
    s.d_ap[s.offset[i]] = distance[i];
  }
}

// The closest candidate of a bucket, or from there up.
template <class T>
struct Closest {
  T distance;
  int32_t index;  // candidate position, -1: none
};

// What the search for negatives by distance works on: see Successors of kernel_arguments.h.
template <class T>
struct SuccessorSearch {
  Buffer<int32_t> count;  // [M] thresholds of the anchor
  Buffer<int32_t> rank;   // [slots] of the positive's threshold among its anchor's
  Buffer<T> threshold;    // [slots]
  Buffer<T> bound;        // [slots]
  Buffer<int32_t> index;  // [slots]
  Buffer<T> farthest;     // [M], or none
  Buffer<int32_t> farthest_index;

  SuccessorSearch(const Selection<T>& s, int64_t anchors, bool wants_farthest)
      : count(anchors),
        rank(s.offset[anchors]),
        threshold(s.offset[anchors]),
        bound(s.offset[anchors]),
        index(s.offset[anchors]),
        farthest(wants_farthest ? anchors : 0),
        farthest_index(wants_farthest ? anchors : 0) {
    std::fill(farthest.begin(), farthest.end(), -std::numeric_limits<T>::infinity());
    std::fill(farthest_index.begin(), farthest_index.end(), -1);
  }

  void set_thresholds(const Selection<T>& s, int64_t i, NegativeRule rule) {
    const T infinity = std::numeric_limits<T>::infinity();
    const int64_t begin = s.offset[i], end = s.offset[i + 1];
    int32_t* r = rank.data() + begin;
    T* t = threshold.data() + begin;
    std::fill(threshold.data() + begin, threshold.data() + end, infinity);
    std::fill(index.data() + begin, index.data() + end, -1);
    if (rule == NegativeRule::kHardest) {
      // The closest negative is the successor of minus infinity, for every positive alike.
      count[i] = s.count[i] > 0;
      std::fill(r, r + s.count[i], 0);
      if (count[i]) t[0] = -infinity;
    } else {
      count[i] = s.count[i];
      rank_values(s.d_ap.data() + begin, s.count[i], r);
      for (int64_t k = 0; k < s.count[i]; ++k) t[r[k]] = s.d_ap[begin + k];
    }
    if (begin == end) return;
    std::copy(t + 1, t + (end - begin), bound.data() + begin);
    bound[end - 1] = infinity;
  }

  // Successor k of the anchor: the closest of the buckets from k up.
  void find_successors(int64_t begin, int64_t thresholds, const int32_t* order,
                       std::vector<Closest<T>>& successors) const {
    successors.resize(size_t(thresholds));
    for (int64_t k = thresholds - 1; k >= 0; --k) {
      Closest<T> best{bound[begin + k], index[begin + k]};
      if (k + 1 < thresholds) {
        const Closest<T>& next = successors[k + 1];
        if (next.index >= 0 && closer(next.distance, order[next.index], best.distance,
                                      best.index < 0 ? -1 : int64_t(order[best.index]))) {
          best = next;
        }
      }
      successors[k] = best;
    }
  }
};

// The closest negative beyond each positive, or of all negatives. Without one the fallback decides.
template <class T>
void choose_by_distance(const PairSet<T>& set, const TripletRule& rule, Selection<T>& s) {
  const int64_t anchors = set.anchors().count(), slots = s.offset[anchors];
  SuccessorSearch<T> search(s, anchors, rule.fallback == Fallback::kFarthest);
  parallel_rows(anchors, kAnchorGrain, 20.0 * double(slots), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) search.set_thresholds(s, i, rule.negatives);
  });
  kernels<T>().successors(set.pairs(), {s.offset.data(),
                                        search.count.data(),
                                        search.threshold.data(),
                                        search.bound.data(),
                                        search.index.data(),
                                        {search.farthest.size() ? search.farthest.data() : nullptr,
                                         search.farthest_index.data()}});

  s.negative = Buffer<int32_t>(slots);
  s.d_an = std::move(search.threshold);  // memory at hand: nothing reads the thresholds any more
  const int32_t* order = set.candidates().order().data();
  const bool within_margin = rule.within_margin && rule.negatives == NegativeRule::kSemihard;
  parallel_rows(anchors, kAnchorGrain, 4.0 * double(slots), [&](int64_t begin, int64_t end) {
    std::vector<Closest<T>> successors;  // of one anchor
    for (int64_t i = begin; i < end; ++i) {
      search.find_successors(s.offset[i], search.count[i], order, successors);
      for (int64_t slot = s.offset[i]; slot < s.offset[i] + s.count[i]; ++slot) {
        Closest<T> chosen = successors[search.rank[slot]];
        const bool comparable = s.d_ap[slot] == s.d_ap[slot];
        const bool outside = chosen.index >= 0 && within_margin &&
                             !inside_margin(s.d_ap[slot], chosen.distance, T(rule.margin));
        if (!comparable || outside) chosen.index = -1;
        if (chosen.index < 0 && rule.fallback == Fallback::kFarthest) {
          chosen = {search.farthest[i], search.farthest_index[i]};
        }
        s.negative[slot] = chosen.index;
        s.d_an[slot] = chosen.distance;
      }
    }
  });
}

template <class T>
void choose_at_random(const PairSet<T>& set, const TripletRule& rule, Selection<T>& s) {
  const int64_t anchors = set.anchors().count(), slots = s.offset[anchors];
  const int32_t* order = set.candidates().order().data();
  Buffer<uint32_t> anchor_word(anchors), positive_word(slots);
  Buffer<uint64_t> key(slots);
  s.negative = Buffer<int32_t>(slots);
  s.d_an = Buffer<T>(slots);
  std::fill(key.begin(), key.end(), kNoKey);
  std::fill(s.negative.begin(), s.negative.end(), -1);
  parallel_rows(anchors, kAnchorGrain, 20.0 * double(slots), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const AnchorWords words = anchor_words(rule.seed, set.anchors().order()[i]);
      anchor_word[i] = words.negatives;
      for (int64_t slot = s.offset[i]; slot < s.offset[i] + s.count[i]; ++slot) {
        positive_word[slot] = row_word(words.positives, uint32_t(order[s.positive[slot]]));
      }
    }
  });
  const bool weighted = rule.negatives == NegativeRule::kDistanceWeighted;
  kernels<T>().random_negatives(
      set.pairs(),
      {s.offset.data(),
       s.count.data(),
       s.d_ap.data(),
       anchor_word.data(),
       positive_word.data(),
       key.data(),
       s.negative.data(),
       s.d_an.data(),
       rule.negatives == NegativeRule::kRandomSemihard,
       T(rule.margin),
       {float(rule.cutoff), float(rule.nonzero_loss_cutoff), float(set.pairs().anchors.dim)}},
      weighted);
}

}  // namespace

template <class T>
void rank_values(const T* values, int64_t count, int32_t* rank) {
  if (count <= kRankByCounting) return kernels<T>().rank(values, count, rank);
  std::vector<int32_t> sorted(count);
  std::iota(sorted.begin(), sorted.end(), 0);
  // NaN compares as the largest value: std::stable_sort needs a strict weak order.
  std::stable_sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
    return values[a] < values[b] || (values[a] == values[a] && values[b] != values[b]);
  });
  for (int64_t k = 0; k < count; ++k) rank[sorted[k]] = int32_t(k);
}

template <class T>
void find_all_positives(const PairSet<T>& set, int64_t spare, PositiveSlots<T>& s) {
  const Pairs<T>& pairs = set.pairs();
  const int64_t anchors = set.anchors().count();
  s.offset[0] = 0;
  for (int64_t i = 0; i < anchors; ++i) {
    const int64_t own_class = pairs.class_end[i] - pairs.class_begin[i];
    const bool has_negative = own_class < set.candidates().count();
    const int64_t most = has_negative ? own_class - int64_t(set.self()) : 0;
    s.offset[i + 1] = s.offset[i] + padded_slots(most > 0 ? most + spare : 0);
    s.count[i] = 0;
  }
  s.positive = Buffer<int32_t>(s.offset[anchors]);
  s.d_ap = Buffer<T>(s.offset[anchors]);
  kernels<T>().positives(pairs,
                         {s.offset.data(), s.count.data(), s.d_ap.data(), s.positive.data()});
}

template <class T>
Selection<T>::Selection(const PairSet<T>& set, const TripletRule& rule)
    : PositiveSlots<T>(set.anchors().count()) {
  if (rule.positives == PositiveRule::kAll) {
    find_all_positives(set, 0, *this);
  } else {
    find_one_positive(set, rule.positives == PositiveRule::kHardest, *this);
  }
  if (is_random(rule.negatives)) {
    choose_at_random(set, rule, *this);
  } else {
    choose_by_distance(set, rule, *this);
  }
}

template void rank_values(const float*, int64_t, int32_t*);
template void rank_values(const double*, int64_t, int32_t*);
template void find_all_positives(const PairSet<float>&, int64_t, PositiveSlots<float>&);
template void find_all_positives(const PairSet<double>&, int64_t, PositiveSlots<double>&);
template struct Selection<float>;
template struct Selection<double>;

}  // namespace facenet::cpu
