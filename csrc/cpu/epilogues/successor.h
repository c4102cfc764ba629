// successor: the closest negative beyond each of an anchor's sorted positive distances.
//
// semantics/successor.h defines a bucket. A distance improves its own bucket where t[k] < d <=
// bound[k]. The bound is the bucket's upper end t[k+1] until the bucket has a negative, and the
// distance of its closest one from then on. These intervals never overlap. Few distances lie in
// one: 0.4 to 14 % of the negatives, as measured.
//
//   up to kFew thresholds   lanes are anchors: a subtraction and a maximum for each threshold
//   more                    a binary search of all lanes at once: threshold_search.h
//   over a million          a binary search for each lane
//
// With few thresholds nothing branches until a tile has been seen. Then the anchors whose closest
// distance is another are settled one by one, and the tile is searched for their candidates.
#pragma once

#include <limits>

#include "cpu/epilogues/extremum.h"
#include "cpu/epilogues/threshold_search.h"
#include "cpu/pair_stream.h"
#include "semantics/order.h"
#include "semantics/successor.h"

namespace facenet::FACENET_ISA {

// Thresholds and bounds by panel: [threshold][anchor of the panel]. Places that an anchor does not
// fill have a threshold that no distance is above.
template <class T>
struct SuccessorPanels {
  static constexpr int kFew = 64;

  int64_t count = 0;
  int32_t* thresholds = nullptr;  // [count] of a panel's anchors, the most; 0: more than kFew
  int64_t* offset = nullptr;      // [count] where the panel begins
  T* threshold = nullptr;
  T* bound = nullptr;
  T* farthest = nullptr;  // [count, kPanel], infinity for an anchor that takes no part

  SuccessorPanels(const Pairs<T>& pairs, const Successors<T>& to)
      : count(panel_count(pairs.anchors.rows)) {
    thresholds = new int32_t[count];
    offset = new int64_t[count];
    farthest = new T[count * kPanel];
    int64_t slots = 0;
    for (int64_t p = 0; p < count; ++p) {
      int32_t most = 1;
      for (int64_t i = p * kPanel; i < end_of(pairs, p); ++i) {
        most = to.count[i] > most ? to.count[i] : most;
      }
      thresholds[p] = most <= kFew ? most : 0;
      offset[p] = slots;
      slots += thresholds[p] * kPanel;
    }
    threshold = new T[slots];
    bound = new T[slots];
    parallel_tasks(count, double(slots), [&](int64_t p) {
      const T infinity = std::numeric_limits<T>::infinity();
      T *const t = threshold + offset[p], *const b = bound + offset[p];
      std::fill_n(t, thresholds[p] * kPanel, infinity);
      std::fill_n(b, thresholds[p] * kPanel, infinity);
      std::fill_n(farthest + p * kPanel, kPanel, infinity);
      if (thresholds[p] == 0) return;
      for (int64_t i = p * kPanel; i < end_of(pairs, p); ++i) {
        const int64_t r = i - p * kPanel;
        for (int k = 0; k < to.count[i]; ++k) {
          t[k * kPanel + r] = to.threshold[to.offset[i] + k];
          b[k * kPanel + r] = to.bound[to.offset[i] + k];
        }
        if (to.count[i] > 0) farthest[i] = -infinity;
      }
    });
  }
  SuccessorPanels(const SuccessorPanels&) = delete;
  ~SuccessorPanels() {
    delete[] thresholds;
    delete[] offset;
    delete[] threshold;
    delete[] bound;
    delete[] farthest;
  }

 private:
  static int64_t end_of(const Pairs<T>& pairs, int64_t p) {
    return std::min((p + 1) * kPanel, pairs.anchors.rows);
  }
};

template <class T>
struct SuccessorEpilogue {
  static constexpr Which kWhich = Which::kNegatives;
  static constexpr bool kByCandidate = true;
  const Pairs<T>& pairs;
  Successors<T> to;
  const SuccessorPanels<T>& panels;
  ExtremumEpilogue<T, Which::kNegatives, true> farthest;

  void consume(const TileRanges<T, kWhich>& ranges) {
    if (panels.thresholds[ranges.p] > 0) {
      if (classes_apart(pairs, ranges.p, ranges.q)) {
        consume_few(ranges, *ranges.by_candidate, *ranges.by_candidate);
      } else {
        const Tile<T> nearer = without_class(ranges, std::numeric_limits<T>::infinity());
        consume_few(ranges, nearer, without_class(ranges, T(-1)));
      }
      return;
    }
    Improvements<T> improvements;
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      const int64_t thresholds = to.count[anchor];
      if (thresholds == 0) return;
      if (farthest.to.distance != nullptr) farthest.consume_range(anchor, first, count, d);
      if (thresholds > Improvements<T>::kMostBuckets) {
        for (int l = 0; l < count; ++l) {
          const int64_t k = successor_bucket(to.threshold + to.offset[anchor], thresholds, d[l]);
          if (k >= 0) offer(anchor, k, first + l, d[l]);
        }
        return;
      }
      int slots = int(kSlotPad);
      while (slots < thresholds) slots *= 2;
      search(anchor, slots, count, d, int(anchor - ranges.first_anchor()),
             int(first - ranges.first_candidate()), improvements);
    });
    for (int e = 0; e < improvements.size; ++e) {
      const int row = improvements.row(e), column = improvements.column(e);
      offer(ranges.first_anchor() + row, improvements.bucket(e), ranges.first_candidate() + column,
            ranges.tile.d[row][column]);
    }
  }

  // The tile by candidates, with `excluded` in place of the pairs of one class.
  Tile<T> without_class(const TileRanges<T, kWhich>& ranges, T excluded) const {
    Tile<T> tile = *ranges.by_candidate;
    TileRanges<T, Which::kPositives>{pairs, ranges.p, ranges.q, ranges.tile, nullptr}.for_each(
        [&](int64_t anchor, int64_t first, int count, const T*) {
          const int64_t r = anchor - ranges.first_anchor(), c = first - ranges.first_candidate();
          for (int l = 0; l < count; ++l) tile.d[c + l][r] = excluded;
        });
    return tile;
  }

  // `nearer` and `farther` are the tile by candidates.
  void consume_few(const TileRanges<T, kWhich>& ranges, const Tile<T>& nearer,
                   const Tile<T>& farther) {
    const int64_t first_anchor = ranges.first_anchor(), first = ranges.first_candidate();
    const int columns = int(std::min<int64_t>(kPanel, pairs.candidates.rows - first));
    const int thresholds = panels.thresholds[ranges.p];
    const T* const t = panels.threshold + panels.offset[ranges.p];
    T* const bound = panels.bound + panels.offset[ranges.p];
    alignas(64) T closest[SuccessorPanels<T>::kFew][kPanel];
    uint64_t better[SuccessorPanels<T>::kFew];
    for (int k = 0; k < thresholds; ++k) {
      better[k] = closest_above(nearer, columns, t + k * kPanel, bound + k * kPanel, closest[k]);
    }
    for (int k = 0; k < thresholds; ++k) {
      for (uint64_t lanes = better[k]; lanes != 0; lanes &= lanes - 1) {
        const int r = __builtin_ctzll(lanes);
        const T d = closest[k][r];
        for_equal(ranges.tile.d[r], columns, d, first_anchor + r, first,
                  [&](int64_t j) { offer(first_anchor + r, k, j, d); });
        bound[k * kPanel + r] = to.bound[to.offset[first_anchor + r] + k];
      }
    }
    if (farthest.to.distance == nullptr) return;
    T* const last = panels.farthest + ranges.p * kPanel;
    const int anchors = int(std::min<int64_t>(kPanel, pairs.anchors.rows - first_anchor));
    uint64_t lanes = farthest_of(farther, columns, last, closest[0]) & first_lanes(anchors);
    for (; lanes != 0; lanes &= lanes - 1) {
      const int r = __builtin_ctzll(lanes);
      if (to.count[first_anchor + r] == 0) continue;
      for_equal(ranges.tile.d[r], columns, closest[0][r], first_anchor + r, first,
                [&](int64_t j) { farthest.offer(first_anchor + r, j, closest[0][r]); });
      last[r] = farthest.to.distance[first_anchor + r];
    }
  }

 private:
  // The closest distance above each anchor's threshold, if it is at or below the bound. Returns
  // for which anchors. An equal distance counts: it may belong to a candidate that wins the tie.
  //
  // Distances are not negative, so they have the order of their bits. t - d, without a sign, is
  // large for a d above t, the larger the closer, and small for all others. It is at least
  // t - bound for those that count.
  static uint64_t closest_above(const Tile<T>& by_candidate, int columns, const T* threshold,
                                const T* bound, T* closest) {
    uint64_t better = 0;
    for (int r = 0; r < kPanel; r += kGroup * W<T>) {
      Bits<T> t[kGroup], most[kGroup], before[kGroup];
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        t[v] = (Bits<T>)load(threshold + r + v * W<T>);
        before[v] = most[v] = t[v] - (Bits<T>)load(bound + r + v * W<T>) - 1;
      }
      for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 6
        for (int v = 0; v < kGroup; ++v) {
          const Bits<T> less = t[v] - (Bits<T>)load(&by_candidate.d[c][r + v * W<T>]);
          most[v] = less > most[v] ? less : most[v];
        }
      }
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        store(closest + r + v * W<T>, (Vec<T>)(t[v] - most[v]));
        better |= uint64_t(different<T>(most[v], before[v])) << (r + v * W<T>);
      }
    }
    return better;
  }

  // The same for the farthest distance.
  static uint64_t farthest_of(const Tile<T>& by_candidate, int columns, const T* before,
                              T* farthest) {
    uint64_t better = 0;
    for (int r = 0; r < kPanel; r += kGroup * W<T>) {
      Index<T> most[kGroup], below[kGroup];
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        below[v] = most[v] = (Index<T>)load(before + r + v * W<T>) - 1;
      }
      for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 6
        for (int v = 0; v < kGroup; ++v) {
          const Index<T> d = (Index<T>)load(&by_candidate.d[c][r + v * W<T>]);
          most[v] = d > most[v] ? d : most[v];
        }
      }
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        store(farthest + r + v * W<T>, (Vec<T>)most[v]);
        better |= uint64_t(different<T>((Bits<T>)most[v], (Bits<T>)below[v])) << (r + v * W<T>);
      }
    }
    return better;
  }

  // Calls f(j) for the negatives j of an anchor at distance d, in a row of a tile.
  template <class F>
  void for_equal(const T* row, int columns, T d, int64_t anchor, int64_t first, F&& f) const {
    uint64_t equal = 0;
#pragma GCC unroll 6
    for (int c = 0; c < kPanel; c += W<T>) {
      const Vec<T> x = load(row + c);
      equal |= uint64_t(greater_equal(x, broadcast(d)) & greater_equal(broadcast(d), x)) << c;
    }
    for (equal &= first_lanes(columns); equal != 0; equal &= equal - 1) {
      const int64_t j = first + __builtin_ctzll(equal);
      if (j < pairs.class_begin[anchor] || j >= pairs.class_end[anchor]) f(j);
    }
  }

  void search(int64_t anchor, int slots, int count, const T* d, int row, int column,
              Improvements<T>& improvements) {
    const T* t = to.threshold + to.offset[anchor];
    const T* bound = to.bound + to.offset[anchor];
    with_table<T>(t, slots, [&](const auto& thresholds) {
      const std::decay_t<decltype(thresholds)> bounds(bound, slots);
      find_improvements<T>(thresholds, bounds, t[0], count, d, row, column, improvements);
    });
  }

  // Offers candidate j at distance d to bucket k of the anchor. No branch could predict whether it
  // wins, so that is a selection. An equal distance is rare: it is a tie, or that of a first
  // negative at the very end of its bucket.
  void offer(int64_t anchor, int64_t k, int64_t j, T d) {
    T& bound = to.bound[to.offset[anchor] + k];
    int32_t& index = to.index[to.offset[anchor] + k];
    const T before = bound;
    index = d < before ? int32_t(j) : index;
    bound = d < before ? d : before;
    if (__builtin_expect(d == before, 0) &&
        closer(d, pairs.candidate_order[j], before, order_of(index))) {
      index = int32_t(j);
    }
  }

  int64_t order_of(int32_t j) const { return j < 0 ? -1 : int64_t(pairs.candidate_order[j]); }
};

}  // namespace facenet::FACENET_ISA
