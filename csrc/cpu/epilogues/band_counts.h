// The weights of a tile of the hinge over all triplets, by counting.
//
// A negative at distance d is in one triplet for each positive whose gap d - t stays below the
// margin. semantics/band.h says from which distance on it does not (`reach_of`), so the weight of a
// pair is the number of reaches above d: one comparison and one addition for each positive. Up to
// kMost positives this takes less time than a binary search of all lanes (band.h).
//
// Lanes are anchors. A tile is [candidate][anchor], has two full panels, and no pair of one class.
#pragma once

#include <limits>

#include "cpu/pair_stream.h"
#include "cpu/simd.h"
#include "cpu/vector_math.h"

namespace facenet::FACENET_ISA {

// One side's anchors, panel by panel and vector by vector: [vector][positive][lane].
template <class T>
class BandCounts {
 public:
  static constexpr int kMost = 64;  // positives of an anchor

  BandCounts(const BandAnchors<T>& of, bool wanted) : of_(of) {
    const bool counts = wanted && of.pairs != nullptr;
    panels_ = counts ? of.pairs->anchors.rows / kPanel : 0;  // a part of a panel does not count
    panel_ = new Panel[panels_];
    int64_t slots = 0;
    for (int64_t p = 0; p < panels_; ++p) {
      Panel& panel = panel_[p];
      for (int r = 0; r < kPanel; ++r) {
        const int32_t count = of.count[p * kPanel + r];
        panel.positives = count > panel.positives ? count : panel.positives;
      }
      panel.offset = slots;
      if (panel.positives <= kMost) slots += panel.positives * kPanel;
    }
    reach_ = new T[slots];
    beyond_ = new Count[slots];
    std::fill_n(reach_, slots, -std::numeric_limits<T>::infinity());  // in no triplet
    std::fill_n(beyond_, slots, Count(0));
    for (int64_t i = 0; i < panels_ * kPanel; ++i) {
      const Panel& panel = panel_[i / kPanel];
      if (panel.positives > kMost) continue;
      for (int k = 0; k < of.count[i]; ++k) {
        reach_[panel.place(int(i % kPanel), k)] = of.reach[of.offset[i] + k];
      }
    }
  }
  BandCounts(const BandCounts&) = delete;
  ~BandCounts() {
    delete[] panel_;
    delete[] reach_;
    delete[] beyond_;
  }

  // Whether the tile of anchor panel p and candidate panel q is of the kind that can be counted.
  bool can_weigh(int64_t p, int64_t q) const {
    return p < panels_ && panel_[p].positives <= kMost &&
           (q + 1) * kPanel <= of_.pairs->candidates.rows && classes_apart(*of_.pairs, p, q);
  }

  // weights[c][a] = the triplets of anchor a that candidate c is the negative of.
  template <bool kTotals>
  void weigh(int64_t p, const Tile<T>& tile, Tile<T>& weights) {
    Panel& panel = panel_[p];
    for (int r = 0; r < kPanel; r += W<T>) {
      const int64_t place = panel.place(r, 0);
      Doubles<T> negatives;
      std::memcpy(&negatives, panel.negatives + r, sizeof negatives);
      for (int c = 0; c < kPanel; c += kBlock) {
        Index<T> out[kBlock];  // reaches at or below the distance
        count<kTotals>(&tile.d[c][r], reach_ + place, panel.positives, beyond_ + place, out);
        for (int j = 0; j < kBlock; ++j) {
          const Index<T> triplets = index<T>(panel.positives) - out[j];
          const Vec<T> weight = __builtin_convertvector(triplets, Vec<T>);
          store(&weights.d[c + j][r], weight);
          if constexpr (kTotals) {  // distances of no triplet may be infinite
            const Vec<T> d = where<T>((Index<T>)(triplets > 0), load(&tile.d[c + j][r]));
            negatives += doubles<T>(weight) * doubles<T>(d);
          }
        }
      }
      std::memcpy(panel.negatives + r, &negatives, sizeof negatives);
    }
    if (kTotals) panel.candidates += kPanel;
  }

  // Adds what the anchors of panel p add up to.
  void add_totals(const BandKernel<T>& to, int64_t p) const {
    if (p >= panels_ || panel_[p].candidates == 0) return;
    const Panel& panel = panel_[p];
    for (int r = 0; r < kPanel; ++r) {
      const int64_t i = p * kPanel + r;
      int32_t* const entering = to.totals.entering + of_.offset[i];
      int32_t before = 0;
      for (int k = 0; k < of_.count[i]; ++k) {
        const int32_t triplets = panel.candidates - int32_t(beyond_[panel.place(r, k)]);
        to.totals.active[i] += triplets;
        entering[k] += triplets - before;
        before = triplets;
      }
      to.totals.negatives[i] += panel.negatives[r];
      if (to.counts) to.totals.counted[i] += int64_t(panel.candidates) * of_.count[i];
    }
  }

 private:
  using Count = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  static constexpr int kBlock = kVectorBytes == 64 ? 12 : 6;  // candidates of the inner loop

  // out[j] = how many reaches are at or below the distance of candidate j, and with kTotals
  // beyond[k] += how many of the distances are at or above reach k, for W anchors. With 16
  // registers the loop needs all of them, so that inlining it would spill some.
  template <bool kTotals>
#if !defined(__AVX512F__)
  __attribute__((noinline))
#endif
  static void count(const T* distances, const T* reach, int positives, Count* beyond,
                    Index<T>* out) {
    Vec<T> d[kBlock];
    Index<T> sum[kBlock] = {};
#pragma GCC unroll 12
    for (int j = 0; j < kBlock; ++j) d[j] = load(distances + j * kPanel);
    for (int k = 0; k < positives; ++k) {
      const Vec<T> bound = load(reach + k * W<T>);
      Index<T> of_positive{};
#pragma GCC unroll 12
      for (int j = 0; j < kBlock; ++j) {
        const Lanes<T> lanes = at_least<T>(d[j], bound);
        sum[j] = add_one<T>(sum[j], lanes);
        if constexpr (kTotals) of_positive = add_one<T>(of_positive, lanes);
      }
      if constexpr (kTotals) {
        of_positive += load_index<T>(beyond + k * W<T>);
        std::memcpy(beyond + k * W<T>, &of_positive, sizeof of_positive);
      }
    }
#pragma GCC unroll 12
    for (int j = 0; j < kBlock; ++j) out[j] = sum[j];
  }

  struct Panel {
    int32_t positives = 0;   // of an anchor, the most
    int32_t candidates = 0;  // that were weighed
    int64_t offset = 0;
    double negatives[kPanel] = {};  // sum over triplets of d(a, n)

    int64_t place(int anchor, int positive) const {
      return offset + (int64_t(anchor / W<T>) * positives + positive) * W<T> + anchor % W<T>;
    }
  };

  const BandAnchors<T>& of_;
  int64_t panels_;
  Panel* panel_;
  T* reach_;
  Count* beyond_;  // candidates that make no triplet with the positive
};

}  // namespace facenet::FACENET_ISA
