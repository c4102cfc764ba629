// The weights of a tile of the hinge over all triplets, by counting.
//
// A negative at distance d is in one triplet for each positive whose gap d - t stays below the
// margin. semantics/band.h says from which distance on it does not (`reach`), so the weight of a
// pair is the number of reaches above d: one comparison and one addition for each positive. Up to
// kMost positives this takes less time than a binary search of all lanes (band.h).
//
// Lanes are rows: tiles are [column][row]. The rows' reaches are therefore kept by columns,
// [positive][row], and nothing is transposed. The tile has two full panels, without a pair of one
// class.
#pragma once

#include "cpu/pair_stream.h"
#include "cpu/simd.h"
#include "cpu/vector_math.h"

namespace facenet::FACENET_ISA {

template <class T>
class BandCounts {
 public:
  static constexpr int kMost = 64;  // positives of an anchor

  // Whether the anchors of a panel have few enough positives.
  static bool fit(const BandAnchors<T>& of, int64_t panel) {
    const int64_t first = panel * kPanel;
    if (first + kPanel > of.pairs->anchors.rows) return false;
    return most_positives(of.count + first) <= kMost;
  }

  // For row panel p.
  void begin(const BandAnchors<T>& of, int64_t p) {
    const int64_t first = p * kPanel;
    positives_ = most_positives(of.count + first);
    for (int k = 0; k < positives_; ++k) {
      for (int r = 0; r < kPanel; ++r) {
        const int64_t i = first + r;
        reach_[k][r] = k < of.count[i] ? of.reach[of.offset[i] + k]
                                       : -std::numeric_limits<T>::infinity();  // in no triplet
        beyond_[k][r] = 0;
      }
    }
  }

  // weights[c][r] = the triplets of row r's anchor that column c is the negative of.
  void weigh_rows(const Tile<T>& tile, Tile<T>& weights) {
    constexpr int kBlock = kVectorBytes == 64 ? 12 : 6;  // columns whose counts are in registers
    for (int r = 0; r < kPanel; r += W<T>) {
      Doubles<T> negatives;
      std::memcpy(&negatives, negatives_ + r, sizeof negatives);
      for (int c = 0; c < kPanel; c += kBlock) {
        Vec<T> d[kBlock];
        Index<T> beyond[kBlock] = {};
#pragma GCC unroll 12
        for (int j = 0; j < kBlock; ++j) d[j] = load(&tile.d[c + j][r]);
        for (int k = 0; k < positives_; ++k) {
          const Vec<T> reach = load(&reach_[k][r]);
          Index<T> of_positive = load_index<T>(&beyond_[k][r]);
#pragma GCC unroll 12
          for (int j = 0; j < kBlock; ++j) {
            const Lanes<T> lanes = at_least<T>(d[j], reach);
            beyond[j] = add_one<T>(beyond[j], lanes);
            of_positive = add_one<T>(of_positive, lanes);
          }
          std::memcpy(&beyond_[k][r], &of_positive, sizeof of_positive);
        }
#pragma GCC unroll 12
        for (int j = 0; j < kBlock; ++j) {
          const Index<T> triplets = index<T>(positives_) - beyond[j];
          const Vec<T> weight = __builtin_convertvector(triplets, Vec<T>);
          const Vec<T> held = where<T>((Index<T>)(triplets > 0), d[j]);  // others may be infinite
          negatives += doubles<T>(weight) * doubles<T>(held);
          store(&weights.d[c + j][r], weight);
        }
      }
      std::memcpy(negatives_ + r, &negatives, sizeof negatives);
    }
    columns_ += kPanel;
  }

  // Adds to weights[c][r] the triplets of column c's anchor that row r is the negative of.
  static void add_columns(const BandAnchors<T>& of, int64_t q, const Tile<T>& tile,
                          Tile<T>& weights) {
    constexpr int kBlock = kVectorBytes == 64 ? 3 : 6;  // vectors of rows
    static_assert(kPanel % (kBlock * W<T>) == 0);
    for (int c = 0; c < kPanel; ++c) {
      const int64_t anchor = q * kPanel + c;
      const int positives = of.count[anchor];
      const T* reach = of.reach + of.offset[anchor];
      for (int r = 0; r < kPanel; r += kBlock * W<T>) {
        Vec<T> d[kBlock];
        Index<T> beyond[kBlock] = {};
#pragma GCC unroll 6
        for (int v = 0; v < kBlock; ++v) d[v] = load(&tile.d[c][r + v * W<T>]);
        for (int k = 0; k < positives; ++k) {
          const Vec<T> bound = broadcast(reach[k]);
#pragma GCC unroll 6
          for (int v = 0; v < kBlock; ++v) {
            beyond[v] = add_one<T>(beyond[v], at_least<T>(d[v], bound));
          }
        }
#pragma GCC unroll 6
        for (int v = 0; v < kBlock; ++v) {
          T* const to = &weights.d[c][r + v * W<T>];
          const Index<T> triplets = index<T>(positives) - beyond[v];
          store(to, load(to) + __builtin_convertvector(triplets, Vec<T>));
        }
      }
    }
  }

  // What the rows' anchors add up to.
  void finish(const BandKernel<T>& to, int64_t p) const {
    if (columns_ == 0) return;
    for (int r = 0; r < kPanel; ++r) {
      const int64_t i = p * kPanel + r;
      int32_t* const entering = to.totals.entering + to.rows.offset[i];
      int32_t before = 0;
      for (int k = 0; k < to.rows.count[i]; ++k) {
        const int32_t triplets = columns_ - int32_t(beyond_[k][r]);
        to.totals.active[i] += triplets;
        entering[k] += triplets - before;
        before = triplets;
      }
      to.totals.negatives[i] += negatives_[r];
      if (to.counts) to.totals.counted[i] += int64_t(columns_) * to.rows.count[i];
    }
  }

 private:
  using Count = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  static int most_positives(const int32_t* count) {  // of a panel's anchors
    int most = 0;
    for (int r = 0; r < kPanel; ++r) most = count[r] > most ? count[r] : most;
    return most;
  }

  int positives_ = 0;  // at most, of an anchor of the rows
  int columns_ = 0;    // seen
  alignas(64) T reach_[kMost][kPanel];
  alignas(64) Count beyond_[kMost][kPanel];  // columns that make no triplet with the positive
  alignas(64) double negatives_[kPanel] = {};
};

}  // namespace facenet::FACENET_ISA
