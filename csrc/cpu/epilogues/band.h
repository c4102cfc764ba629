// band: the hinges of all triplets of a kind, without a list of them; see semantics/band.h.
//
// A negative at distance d meets one contiguous range of its anchor's positives, which are sorted
// by distance. Binary searches by vectors find this range for W negatives at once, so N^2 P
// triplets cost O(N^2 log P). For each negative the epilogue keeps its weight, the number of
// triplets it is in, and adds a mark at either end of its range. The positives' weights are the
// running sums of these marks. Softplus has no closed form over a range: the epilogue computes it
// for every pair of a positive and a negative.
//
// Weights, times the slope of the distance, give the gradient (push.h). A tile serves its rows as
// anchors. It also serves its columns as anchors, whose negatives the rows are.
#pragma once

#include <cstring>

#include "cpu/epilogues/band_counts.h"
#include "cpu/epilogues/threshold_search.h"
#include "cpu/push.h"
#include "cpu/vector_math.h"
#include "semantics/band.h"

namespace facenet::FACENET_ISA {

template <class T>
class BandWeights {
 public:
  using Kernel = BandKernel<T>;

  explicit BandWeights(const Kernel& kernel)
      : to_(kernel),
        of_rows_(kernel.rows, counts(kernel)),
        of_columns_(kernel.columns, counts(kernel) && kernel.rows.pairs == nullptr) {}

  // Row panel p and column panel q, where one side has anchors: weights are [column][row].
  bool weigh(int64_t p, int64_t q, Tile<T>& weights) {
    Tile<T> tile, transposed;
    if (to_.rows.pairs != nullptr) {
      compute_tile(*to_.rows.pairs, p, q, RowRange(), tile);
      transpose_tile(tile, transposed);
      return weigh_anchors<true>(to_.rows, of_rows_, p, q, tile, transposed, weights);
    }
    compute_tile(*to_.columns.pairs, q, p, RowRange(), tile);
    transpose_tile(tile, transposed);
    Tile<T> by_row;
    const bool any = weigh_anchors<false>(to_.columns, of_columns_, q, p, tile, transposed, by_row);
    transpose_tile(by_row, weights);
    return any;
  }

  // Panels p and q of one side, whose rows are anchors and candidates: weights are [row of q][row
  // of p], those of either as anchors together.
  bool weigh_both(int64_t p, int64_t q, Tile<T>& weights) {
    Tile<T> tile, transposed;
    compute_tile(*to_.rows.pairs, p, q, RowRange(), tile);
    transpose_tile(tile, transposed);
    bool any = weigh_anchors<true>(to_.rows, of_rows_, p, q, tile, transposed, weights);
    Tile<T> of_q, by_row;
    if (p == q) {
      of_q = weights;
    } else {
      any = weigh_anchors<true>(to_.rows, of_rows_, q, p, transposed, tile, of_q) || any;
    }
    if (!any || to_.gradient == nullptr) return any;
    transpose_tile(of_q, by_row);
    T *const w = &weights.d[0][0], *const more = &by_row.d[0][0];
    for (int l = 0; l < kPanel * kPanel; l += W<T>) store(w + l, load(w + l) + load(more + l));
    return any;
  }

  // After the last tile of panel p.
  void finish(int64_t p) {
    if (to_.rows.pairs != nullptr) of_rows_.add_totals(to_, p);
  }

 private:
  static bool counts(const Kernel& kernel) {
    return kernel.kind == TripletKind::kAll && !kernel.smooth;
  }

  // The weights of a tile's candidates, [candidate][anchor], and with kTotals what they add to
  // their anchors. Returns whether any is not 0.
  template <bool kTotals>
  bool weigh_anchors(const BandAnchors<T>& of, BandCounts<T>& counts, int64_t p, int64_t q,
                     const Tile<T>& by_anchor, const Tile<T>& by_candidate,
                     Tile<T>& weights) const {
    if (counts.can_weigh(p, q)) {
      counts.template weigh<kTotals>(p, by_candidate, weights);
      multiply_slopes(of.pairs->distance, &by_candidate.d[0][0], kPanel * kPanel, &weights.d[0][0]);
      return true;
    }
    Tile<T> scratch;
    const bool any = weigh_rows<kTotals>(of, p, q, by_anchor, scratch);
    transpose_tile(scratch, weights);
    return any;
  }

  // The same by binary searches, [anchor][candidate].
  template <bool kTotals>
  bool weigh_rows(const BandAnchors<T>& of, int64_t p, int64_t q, const Tile<T>& tile,
                  Tile<T>& weights) const {
    std::memset(&weights, 0, sizeof weights);
    bool any = false;
    const TileRanges<T, Which::kNegatives> ranges{*of.pairs, p, q, tile, nullptr};
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      if (of.count[anchor] == 0) return;
      T* w = weights.d[anchor - ranges.first_anchor()] + (first - ranges.first_candidate());
      const T* t = of.threshold + of.offset[anchor];
      bool found = false;
      if (to_.smooth) {
        found = weigh_smoothly<kTotals>(anchor, t, of.count[anchor], count, d, w);
      } else {
        with_table<T>(t, int(of.offset[anchor + 1] - of.offset[anchor]), [&](const auto& table) {
          found = weigh_by_search<kTotals>(anchor, table, of.count[anchor], count, d, w);
        });
      }
      if (found) multiply_slopes(of.pairs->distance, d, count, w);
      any = any || found;
    });
    return any;
  }

  static void multiply_slopes(Distance kind, const T* d, int count, T* w) {
    if (kind == Distance::kSqEuclidean) {  // one loop for each kind, so that it has no branch
      for (int l = 0; l < count; ++l) w[l] *= distance_slope(Distance::kSqEuclidean, d[l]);
    } else if (kind == Distance::kEuclidean) {
      for (int l = 0; l < count; ++l) w[l] *= distance_slope(Distance::kEuclidean, d[l]);
    }  // that of the cosine is 1
  }

  template <bool kTotals, class Table>
  bool weigh_by_search(int64_t anchor, const Table& table, int positives, int count, const T* d,
                       T* w) const {
    const bool splits = splits_at_zero(to_.kind);
    const Vec<T> coarse = table.evenly_spaced(), zero{}, margin = broadcast(to_.margin);
    const Index<T> all = index<T>(positives);
    Index<T> active{}, counted{};
    Doubles<T> distances{};  // positives less negatives may come to a millionth of either
    Entries entering, leaving;
    for (int at = 0; at < count; at += W<T>) {
      const Vec<T> x = load(d + at);
      const Index<T> there = (Index<T>)(lane_numbers<T>() < count - at);
      const Index<T> above = splits ? last_gap<false, T>(table, coarse, x, zero) : Index<T>{};
      Index<T> begin = last_gap<true, T>(table, coarse, x, margin), end = all;
      switch (to_.kind) {
        case TripletKind::kAll:
          break;
        case TripletKind::kHard:
          begin = begin > above ? begin : above;
          break;
        case TripletKind::kSemihard:
          end = above;
          break;
        case TripletKind::kEasy:
          end = Index<T>{};
      }
      const Index<T> held = there & (Index<T>)(end > begin);
      const Index<T> size = (end - begin) & held;
      const Vec<T> weight = __builtin_convertvector(size, Vec<T>);
      store(w + at, weight);
      active += size;
      if constexpr (kTotals) {
        distances += doubles<T>(weight) * doubles<T>(where<T>(held, x));
        const uint32_t lanes = greater(weight, zero);
        entering.add(begin, lanes);
        if (to_.kind == TripletKind::kSemihard) leaving.add(end, lanes);
        if (to_.counts) counted += there & count_kind(table, coarse, x, above, all);
      }
    }
    const int64_t total = sum_of(active);
    if constexpr (kTotals) {
      for (int l = 0; l < W<T>; ++l) to_.totals.negatives[anchor] += distances[l];
      to_.totals.active[anchor] += total;
      if (to_.counts) to_.totals.counted[anchor] += sum_of(counted);
      int32_t* change = to_.totals.entering + to_.rows.offset[anchor];
      for (int e = 0; e < entering.size; ++e) ++change[entering.place[e]];
      for (int e = 0; e < leaving.size; ++e) --change[leaving.place[e]];
    }
    return total > 0;
  }

  // Places in an anchor's slots, of the lanes that are in a band.
  struct Entries {
    using Entry = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    Entry place[kPanel + W<T>];
    int size = 0;
    void add(Index<T> places, uint32_t lanes) {
      size += store_lanes<T>(place + size, places, lanes);
    }
  };

  // The size of counted_band of each lane.
  template <class Table>
  Index<T> count_kind(const Table& table, Vec<T> coarse, Vec<T> x, Index<T> above,
                      Index<T> all) const {
    if (to_.kind == TripletKind::kAll) return all;
    if (to_.kind == TripletKind::kHard) return all - above;
    const Index<T> easy = last_gap<false, T>(table, coarse, x, broadcast(to_.margin));
    if (to_.kind == TripletKind::kEasy) return easy;
    return (above - easy) & (Index<T>)(above > easy);
  }

  static int64_t sum_of(Index<T> lanes) {
    int64_t total = 0;
    for (int l = 0; l < W<T>; ++l) total += lanes[l];
    return total;
  }

  template <bool kTotals>
  bool weigh_smoothly(int64_t anchor, const T* t, int positives, int count, const T* d,
                      T* w) const {
    int64_t counted = 0;
    double loss = 0;
    for (int k = 1; k <= positives; ++k) {
      Vec<T> losses{}, slopes{};
      for (int at = 0; at < count; at += W<T>) {
        const Vec<T> gap = load(d + at) - t[k];
        const Index<T> in = (Index<T>)(lane_numbers<T>() < count - at) & of_kind(gap);
        Vec<T> value, slope;
        softplus<T>(to_.margin - gap, value, slope);
        slope = where<T>(in, slope);
        store(w + at, load(w + at) + slope);
        if constexpr (kTotals) {
          losses += where<T>(in, value);
          slopes += slope;
        }
        counted -= sum_of(in);  // lanes of minus one
      }
      if constexpr (kTotals) {
        loss += double(sum_lanes<T>(losses));
        to_.totals.weight[to_.rows.offset[anchor] + k] += sum_lanes<T>(slopes);
      }
    }
    if constexpr (kTotals) {
      to_.totals.negatives[anchor] += loss;
      to_.totals.active[anchor] += counted;
      to_.totals.counted[anchor] += counted;
    }
    return counted > 0;
  }

  // is_of_kind, lane by lane.
  Index<T> of_kind(Vec<T> gap) const {
    switch (to_.kind) {
      case TripletKind::kAll:
        return ~Index<T>{};
      case TripletKind::kHard:
        return (Index<T>)(gap <= T(0));
      case TripletKind::kSemihard:
        return (Index<T>)(gap > T(0)) & (Index<T>)(gap <= to_.margin);
      default:
        return (Index<T>)(gap > to_.margin);
    }
  }

  const Kernel& to_;
  BandCounts<T> of_rows_, of_columns_;
};

}  // namespace facenet::FACENET_ISA
