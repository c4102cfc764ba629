// softmax: losses of a softmax over an anchor's pairs; see semantics/softmax.h.
//
// Three passes. SoftmaxSums keeps each anchor's streaming log-sum-exp. SoftmaxPositives visits the
// tiles of one class and adds up the terms of the positives, which need the whole sum.
// SoftmaxWeights pushes: an anchor's factor times exp((closest - d) / t) for each pair of its
// softmax, less the share of its positives.
//
// Lanes are rows: tiles are [column][row]. Pairs of one class are few, and are settled one by one.
#pragma once

#include <cmath>

#include "cpu/push.h"
#include "cpu/vector_math.h"
#include "semantics/softmax.h"

namespace facenet::FACENET_ISA {

// The rows and columns of a pass, as the pairs of a tile that is [column][row].
template <class T>
class SoftmaxTiles {
 public:
  explicit SoftmaxTiles(const SoftmaxKernel<T>& of) : of_(of), by_column_(*of.pairs) {
    if (!of.rows) return;
    by_column_.anchors = of.pairs->candidates;
    by_column_.candidates = of.pairs->anchors;
  }

  const Panels<T>& rows() const { return by_column_.candidates; }
  const Panels<T>& columns() const { return by_column_.anchors; }
  int columns_of(int64_t q) const {
    return int(std::min<int64_t>(kPanel, columns().rows - q * kPanel));
  }
  void compute(int64_t p, int64_t q, Tile<T>& tile) const {
    compute_tile(by_column_, q, p, RowRange(), tile);
  }

  // f(row, column, excluded) for each pair of one class, both counted from the tile's first.
  template <class F>
  void for_each_of_one_class(int64_t p, int64_t q, const Tile<T>& tile, F&& f) const {
    const Pairs<T>& pairs = *of_.pairs;
    const TileRanges<T, Which::kPositives> ranges{pairs, of_.rows ? p : q, of_.rows ? q : p, tile};
    ranges.for_each([&](int64_t i, int64_t first, int count, const T*) {
      for (int64_t j = first; j < first + count; ++j) {
        const int anchor = int(i - ranges.first_anchor());
        const int candidate = int(j - ranges.first_candidate());
        f(of_.rows ? anchor : candidate, of_.rows ? candidate : anchor, pairs.excluded(i, j));
      }
    });
  }

 private:
  const SoftmaxKernel<T>& of_;
  Pairs<T> by_column_;
};

template <class T>
class SoftmaxSums {
 public:
  explicit SoftmaxSums(const SoftmaxKernel<T>& kernel) : to_(kernel), tiles_(kernel) {}

  void finish(int64_t) {}

  bool weigh(int64_t p, int64_t q, Tile<T>& tile) {
    tiles_.compute(p, q, tile);
    tiles_.for_each_of_one_class(p, q, tile, [&](int row, int column, bool excluded) {
      const bool out = excluded || !sums_positives(to_.loss);
      if (out) tile.d[column][row] = std::numeric_limits<T>::infinity();
    });
    const int columns = tiles_.columns_of(q);
    const T rate = T(1) / to_.temperature;
    for (int r = 0; r < kPanel; r += W<T>) {
      T* const closest = to_.anchors.closest + p * kPanel + r;
      double* const total = to_.anchors.sum + p * kPanel + r;
      const Vec<T> before = load(closest);
      Vec<T> least = before, sum{};
      for (int c = 0; c < columns; ++c) {
        const Vec<T> d = load(&tile.d[c][r]);
        least = d < least ? d : least;
      }
      for (int c = 0; c < columns; ++c) {
        sum += exp_of_negative<T>((least - load(&tile.d[c][r])) * rate);
      }
      // Of infinity less infinity the exponential is 0: so are the sums of nothing.
      const Vec<T> kept = exp_of_negative<T>((least - before) * rate);
      store(closest, least);
      for (int l = 0; l < W<T>; ++l) total[l] = total[l] * double(kept[l]) + double(sum[l]);
    }
    return false;
  }

 private:
  const SoftmaxKernel<T>& to_;
  const SoftmaxTiles<T> tiles_;
};

template <class T>
struct SoftmaxPositives {
  static constexpr Which kWhich = Which::kPositives;
  static constexpr bool kByCandidate = false;
  const SoftmaxKernel<T>& of;

  void consume(const TileRanges<T, kWhich>& ranges) const {
    const SoftmaxAnchors<T>& anchors = of.anchors;
    ranges.for_each([&](int64_t i, int64_t first, int count, const T* d) {
      const T log_sum = T(std::log(anchors.sum[i]));
      for (int k = 0; k < count; ++k) {
        if (of.pairs->excluded(i, first + k)) continue;
        const T v = log_sum + (d[k] - anchors.closest[i]) / of.temperature;
        anchors.terms[i] += double(softmax_term(of.loss, v));
        anchors.slopes[i] += double(softmax_slope(of.loss, v));
        ++anchors.positives[i];
      }
    });
  }
};

template <class T>
class SoftmaxWeights {
 public:
  explicit SoftmaxWeights(const SoftmaxKernel<T>& kernel) : of_(kernel), tiles_(kernel) {}

  void finish(int64_t) {}

  bool weigh(int64_t p, int64_t q, Tile<T>& weights) {
    Tile<T> tile;
    tiles_.compute(p, q, tile);
    const int columns = tiles_.columns_of(q);
    std::memset(&weights, 0, sizeof weights);
    const SoftmaxAnchors<T>& anchors = of_.anchors;
    const T rate = T(1) / of_.temperature;
    for (int c = 0; c < columns; ++c) {
      for (int r = 0; r < kPanel; r += W<T>) {
        const Vec<T> d = load(&tile.d[c][r]);
        Vec<T> w{};
        const auto add = [&](Vec<T> closest, Vec<T> factor) {
          w += factor * exp_of_negative<T>((closest - d) * rate);
        };
        const int64_t i = p * kPanel + r, j = q * kPanel + c;
        if (of_.rows) add(load(anchors.closest + i), load(anchors.factor + i));
        if (of_.columns) add(broadcast(anchors.closest[j]), broadcast(anchors.factor[j]));
        store(&weights.d[c][r], w);
      }
    }
    tiles_.for_each_of_one_class(p, q, tile, [&](int r, int c, bool excluded) {
      T& w = weights.d[c][r];
      if (excluded || !sums_positives(of_.loss)) w = 0;
      if (excluded) return;
      if (of_.rows) w -= positive_weight(p * kPanel + r, tile.d[c][r]);
      if (of_.columns) w -= positive_weight(q * kPanel + c, tile.d[c][r]);
    });
    return true;
  }

 private:
  T positive_weight(int64_t i, T d) const {
    const SoftmaxAnchors<T>& anchors = of_.anchors;
    const T v = anchors.log_sum[i] + (d - anchors.closest[i]) / of_.temperature;
    return anchors.share[i] * softmax_slope(of_.loss, v);
  }

  const SoftmaxKernel<T>& of_;
  const SoftmaxTiles<T> tiles_;
};

}  // namespace facenet::FACENET_ISA
