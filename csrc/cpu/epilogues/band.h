// band: the hinges of all triplets of a kind, without a list of them; see semantics/band.h.
//
// A negative at distance d meets one contiguous range of its anchor's positives, which are sorted
// by distance. Binary searches by vectors find this range for W negatives at once, so N^2 P
// triplets cost O(N^2 log P). For each negative the epilogue keeps its weight, the number of
// triplets it is in, and adds a mark at either end of its range. The positives' weights are the
// running sums of these marks. Softplus has no closed form over a range: the epilogue computes it
// for every pair of a positive and a negative.
//
// Weights, times the slope of the distance, give the gradient: row r gets minus the sum over c of
// w (x_r - x_c). A tile serves its rows as anchors. It also serves its columns as anchors, whose
// negatives the rows are. The epilogue adds to the sum while it has the tile, by direct
// differences again. The sum is of floating-point numbers and needs one order, so each panel of
// rows has one writer (stream_rows), and each pair is visited from either side.
#pragma once

#include <cstring>

#include "cpu/epilogues/threshold_search.h"
#include "cpu/pair_stream.h"
#include "cpu/vector_math.h"
#include "semantics/band.h"

namespace facenet::FACENET_ISA {

// Registers of push_rows: kDepthRows coordinates by kPushCols vectors of rows, twice.
#if defined(__AVX512F__)
inline constexpr int kDepthRows = 4, kPushCols = 3;  // 24 of 32, and a weight for each vector
#else
inline constexpr int kDepthRows = 2, kPushCols = 2;  // 8 of 16
#endif

// g[k][r] -= sum over the given columns c of w[c][r] * (x[k][r] - y[k][c]), panels depth-major.
template <class T, int kRowsOfDepth>
inline void push_rows(const T* x, const T* y, const Tile<T>& w, const int* columns, int count,
                      T* g) {
  for (int r = 0; r < kPanel; r += kPushCols * W<T>) {
    Vec<T> own[kRowsOfDepth][kPushCols], sum[kRowsOfDepth][kPushCols] = {};
#pragma GCC unroll 4
    for (int k = 0; k < kRowsOfDepth; ++k) {
#pragma GCC unroll 3
      for (int v = 0; v < kPushCols; ++v) own[k][v] = load(x + k * kPanel + r + v * W<T>);
    }
    for (int e = 0; e < count; ++e) {
      const int c = columns[e];
      Vec<T> weight[kPushCols];
#pragma GCC unroll 3
      for (int v = 0; v < kPushCols; ++v) weight[v] = load(&w.d[c][r + v * W<T>]);
#pragma GCC unroll 4
      for (int k = 0; k < kRowsOfDepth; ++k) {
        const T other = y[k * kPanel + c];
#pragma GCC unroll 3
        for (int v = 0; v < kPushCols; ++v) sum[k][v] += weight[v] * (own[k][v] - other);
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < kRowsOfDepth; ++k) {
#pragma GCC unroll 3
      for (int v = 0; v < kPushCols; ++v) {
        T* to = g + k * kPanel + r + v * W<T>;
        store(to, load(to) - sum[k][v]);
      }
    }
  }
}

template <class T>
class BandStream {
  static_assert(kPanel % (kPushCols * W<T>) == 0);

 public:
  explicit BandStream(const BandKernel<T>& kernel) : to_(kernel) {}

  void run() const {
    const bool by_rows = to_.rows.pairs != nullptr;
    const Pairs<T>& pairs = by_rows ? *to_.rows.pairs : *to_.columns.pairs;
    const Panels<T>& x = by_rows ? pairs.anchors : pairs.candidates;
    const Panels<T>& y = by_rows ? pairs.candidates : pairs.anchors;
    stream_rows(x.rows, y.rows, x.dim, [&](int64_t p, int64_t q_count) {
      T* sum = nullptr;
      if (to_.gradient != nullptr) {
        sum = new T[x.dim * kPanel];
        std::fill_n(sum, x.dim * kPanel, T(0));
      }
      Tile<T> tile, scratch, weights;  // the last one [column][row]
      for (int64_t q = 0; q < q_count; ++q) {
        bool any = false;
        if (by_rows) {
          compute_tile(pairs, p, q, RowRange(), tile);
          any = weigh<true>(to_.rows, p, q, tile, scratch);
          if (sum == nullptr) continue;
          transpose_tile(scratch, weights);
          if (to_.columns.pairs != nullptr) {
            any = add_weights_of_columns(p, q, tile, scratch, weights) || any;
          }
        } else {
          compute_tile(pairs, q, p, RowRange(), tile);
          any = weigh<false>(to_.columns, q, p, tile, weights);
        }
        if (any) push(x.panel(p), y.panel(q), weights, x.dim, sum);
      }
      if (sum == nullptr) return;
      for (int64_t r = 0; r < kPanel && p * kPanel + r < x.rows; ++r) {
        T* row = to_.gradient + int64_t(to_.order[p * kPanel + r]) * x.dim;
        for (int64_t k = 0; k < x.dim; ++k) row[k] = sum[k * kPanel + r];
      }
      delete[] sum;
    });
  }

 private:
  // Where both sides have anchors: the tile read down its columns.
  bool add_weights_of_columns(int64_t p, int64_t q, const Tile<T>& tile, Tile<T>& scratch,
                              Tile<T>& weights) const {
    Tile<T> by_columns;
    transpose_tile(tile, by_columns);
    if (!weigh<false>(to_.columns, q, p, by_columns, scratch)) return false;
    for (int i = 0; i < kPanel; ++i) {
      for (int l = 0; l < kPanel; l += W<T>) {
        store(&weights.d[i][l], load(&weights.d[i][l]) + load(&scratch.d[i][l]));
      }
    }
    return true;
  }

  void push(const T* x, const T* y, const Tile<T>& weights, int64_t dim, T* sum) const {
    int columns[kPanel], count = 0;
    for (int c = 0; c < kPanel; ++c) {
      uint32_t nonzero = 0;
      for (int r = 0; r < kPanel; r += W<T>) {
        const Vec<T> w = load(&weights.d[c][r]);
        nonzero |= greater(w * w, Vec<T>{}) | ~greater_equal(w * w, Vec<T>{});  // NaN counts
      }
      columns[count] = c;
      count += (nonzero & uint32_t(first_lanes(W<T>))) != 0;
    }
    int64_t k = 0;
    for (; k + kDepthRows <= dim; k += kDepthRows) {
      push_rows<T, kDepthRows>(x + k * kPanel, y + k * kPanel, weights, columns, count,
                               sum + k * kPanel);
    }
    for (; k < dim; ++k) {
      push_rows<T, 1>(x + k * kPanel, y + k * kPanel, weights, columns, count, sum + k * kPanel);
    }
  }

  // The weights of a tile's candidates, [anchor][candidate], and with kTotals what they add to
  // their anchors. Returns whether any is not 0.
  template <bool kTotals>
  bool weigh(const BandAnchors<T>& of, int64_t p, int64_t q, const Tile<T>& tile,
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

  const BandKernel<T> to_;
};

}  // namespace facenet::FACENET_ISA
