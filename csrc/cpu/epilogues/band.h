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
  using Arguments = BandKernel<T>;
  explicit BandWeights(const Arguments& kernel)
      : to_(kernel), by_column_(kernel.rows.pairs ? *kernel.rows.pairs : *kernel.columns.pairs) {
    if (kernel.rows.pairs != nullptr) std::swap(by_column_.anchors, by_column_.candidates);
  }

  bool weigh(int64_t p, int64_t q, Tile<T>& weights) {
    if (can_count(p, q)) {
      count(p, q, weights);
      return to_.gradient != nullptr;
    }
    if (to_.rows.pairs == nullptr) {
      compute_tile(*to_.columns.pairs, q, p, RowRange(), tile_);
      return weigh_anchors<false>(to_.columns, q, p, tile_, weights);
    }
    compute_tile(*to_.rows.pairs, p, q, RowRange(), tile_);
    const bool any = weigh_anchors<true>(to_.rows, p, q, tile_, scratch_);
    if (to_.gradient == nullptr) return false;
    transpose_tile(scratch_, weights);
    if (to_.columns.pairs == nullptr) return any;
    return add_weights_of_columns(p, q, weights) || any;
  }

  void finish(int64_t p) {
    if (to_.rows.pairs != nullptr) counts_.finish(to_, p);
  }

 private:
  // Whether a tile has what BandCounts asks for.
  bool can_count(int64_t p, int64_t q) {
    if (to_.kind != TripletKind::kAll || to_.smooth) return false;
    const auto fits = [](const BandAnchors<T>& of, int64_t anchors, int64_t others) {
      if (of.pairs == nullptr) return true;
      if (!BandCounts<T>::fit(of, anchors)) return false;
      return (others + 1) * kPanel <= of.pairs->candidates.rows &&
             classes_apart(*of.pairs, anchors, others);
    };
    return fits(to_.rows, p, q) && fits(to_.columns, q, p);
  }

  void count(int64_t p, int64_t q, Tile<T>& weights) {
    compute_tile(by_column_, q, p, RowRange(), tile_);
    if (to_.rows.pairs != nullptr) {
      if (!counts_begun_) counts_.begin(to_.rows, p);
      counts_begun_ = true;
      counts_.weigh_rows(tile_, weights);
    } else {
      std::memset(&weights, 0, sizeof weights);
    }
    if (to_.columns.pairs != nullptr && to_.gradient != nullptr) {
      BandCounts<T>::add_columns(to_.columns, q, tile_, weights);
    }
    multiply_slopes(by_column_.distance, &tile_.d[0][0], kPanel * kPanel, &weights.d[0][0]);
  }

  // Where both sides have anchors: the tile read down its columns.
  bool add_weights_of_columns(int64_t p, int64_t q, Tile<T>& weights) {
    Tile<T> by_columns;
    transpose_tile(tile_, by_columns);
    if (!weigh_anchors<false>(to_.columns, q, p, by_columns, scratch_)) return false;
    for (int i = 0; i < kPanel; ++i) {
      for (int l = 0; l < kPanel; l += W<T>) {
        store(&weights.d[i][l], load(&weights.d[i][l]) + load(&scratch_.d[i][l]));
      }
    }
    return true;
  }

  // The weights of a tile's candidates, [anchor][candidate], and with kTotals what they add to
  // their anchors. Returns whether any is not 0.
  template <bool kTotals>
  bool weigh_anchors(const BandAnchors<T>& of, int64_t p, int64_t q, const Tile<T>& tile,
                     Tile<T>& weights) const {
    std::memset(&weights, 0, sizeof weights);
    bool any = false;
    const TileRanges<T, Which::kNegatives> ranges{*of.pairs, p, q, tile};
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
    if (kind == Distance::kCosine) return;  // 1
    for (int l = 0; l < count; ++l) w[l] *= distance_slope(kind, d[l]);
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

  const Arguments& to_;
  Pairs<T> by_column_;  // the pairs of a tile that is [column][row]
  Tile<T> tile_, scratch_;
  BandCounts<T> counts_;
  bool counts_begun_ = false;
};

}  // namespace facenet::FACENET_ISA
