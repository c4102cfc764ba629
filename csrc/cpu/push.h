// The gradient over all pairs: row r of one side gets minus the sum over the columns c, which are
// the other side's rows, of w(r, c) (x_r - y_c).
//
// N^2 weights are too many to keep. Each is added to the gradient while its tile is there, by
// direct differences. A sum of floating-point numbers needs one order, so each panel of rows has
// one writer at a time, and meets the columns in one order: ascending where the sides differ
// (`push`), and in rounds where both are one (`push_both`), which computes each distance once.
//
// The weights come from an object that all workers share:
//   bool weigh(p, q, weights)       whether any weight is not 0
//   bool weigh_both(p, q, weights)  the same for push_both
//   void finish(p)                  after the last column of row panel p
// `weigh` computes the tile of row panel p and column panel q as it likes (compute_tile), and
// leaves its weights as [column][row]. It may also add to statistics of the rows of p, the last of
// them in `finish`. What only has statistics returns false, and gets no gradient to fill.
#pragma once

#include <sched.h>

#include <atomic>

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

// Registers of push_rows: kDepthRows coordinates by kPushCols vectors of rows, twice.
#if defined(__AVX512F__)
inline constexpr int kDepthRows = 4, kPushCols = 3;  // 24 of 32, and a weight for each vector
#else
inline constexpr int kDepthRows = 3, kPushCols = 2;  // 12 of 16
#endif

// g[k][r] -= sum over the given columns c of w[c][r] * (x[k][r] - y[k][c]), panels depth-major.
template <class T, int kRowsOfDepth>
inline void push_rows(const T* x, const T* y, const Tile<T>& w, const int* columns, int count,
                      T* g) {
  static_assert(kPanel % (kPushCols * W<T>) == 0);
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

// One tile: columns that push no row are left out.
template <class T>
inline void push_tile(const T* x, const T* y, const Tile<T>& weights, int64_t dim, T* sum) {
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

// The sum of a panel, depth-major, to the rows of the caller.
template <class T>
inline void store_rows(const Panels<T>& x, int64_t p, const int32_t* order, const T* sum,
                       T* gradient) {
  for (int64_t r = 0; r < kPanel && p * kPanel + r < x.rows; ++r) {
    T* row = gradient + int64_t(order[p * kPanel + r]) * x.dim;
    for (int64_t k = 0; k < x.dim; ++k) row[k] = sum[k * kPanel + r];
  }
}

// `gradient` [x.rows, dim], in the order of the caller: order[position]. Null: not wanted.
template <class Weights, class T>
void push(const Panels<T>& x, const Panels<T>& y, Weights& of, const int32_t* order, T* gradient) {
  const int64_t p_count = panel_count(x.rows), q_count = panel_count(y.rows);
  const double work = double(x.rows) * double(y.rows) * double(x.dim + kDepth) / 4;
  parallel_tasks(p_count, work, [&](int64_t p) {
    T* sum = nullptr;
    if (gradient != nullptr) {
      sum = new T[x.dim * kPanel];
      std::fill_n(sum, x.dim * kPanel, T(0));
    }
    Tile<T> weights;
    for (int64_t q = 0; q < q_count; ++q) {
      const bool any = of.weigh(p, q, weights);
      if (any && sum != nullptr) push_tile(x.panel(p), y.panel(q), weights, x.dim, sum);
    }
    of.finish(p);
    if (sum == nullptr) return;
    store_rows(x, p, order, sum, gradient);
    delete[] sum;
  });
}

// The same where both sides are one. A pair of panels is visited once, and pushes both. Panels are
// in groups, so that those of two groups stay in a core's cache. In round s group g meets group
// s - g, modulo the number of groups: each group meets one in each round. So a panel has one writer
// at a time, and always the same order of sums. A task waits until its groups are through with the
// round before. Tasks are drawn in order, so what it waits for is running.
template <class Weights, class T>
void push_both(const Panels<T>& x, Weights& of, const int32_t* order, T* gradient) {
  const int64_t panels = panel_count(x.rows), size = x.dim * kPanel;
  // Some sixteen tasks may run at once, or if there are many panels more.
  const int64_t group = std::clamp<int64_t>(panels / 16, 1, 4),
                groups = (panels + group - 1) / group;
  T* const sums = new T[gradient != nullptr ? panels * size : 0];
  if (gradient != nullptr) std::fill_n(sums, panels * size, T(0));
  const auto visit = [&](int64_t p, int64_t q) {
    Tile<T> weights, transposed;
    if (!of.weigh_both(p, q, weights) || gradient == nullptr) return;
    push_tile(x.panel(p), x.panel(q), weights, x.dim, sums + p * size);
    if (p == q) return;
    transpose_tile(weights, transposed);
    push_tile(x.panel(q), x.panel(p), transposed, x.dim, sums + q * size);
  };
  std::atomic<int64_t>* const rounds = new std::atomic<int64_t>[groups]();  // done, of a group
  const auto wait = [&](int64_t g, int64_t round) {
    for (int spins = 1; rounds[g].load(std::memory_order_acquire) < round; ++spins) {
      if (spins % 64 == 0) sched_yield();  // its worker may have lost the processor
    }
  };
  // Of a round: the groups g <= h with g + h = round, and those with g + h = round + groups.
  const int64_t most = groups / 2 + 1;
  const double work = double(x.rows) * double(x.rows) * double(x.dim + kDepth) / 4;
  parallel_tasks(groups * most, work, [&](int64_t task) {
    const int64_t round = task / most, step = task % most, low = round / 2 + 1;
    const int64_t g = step < low ? step : round + 1 + (step - low);
    const int64_t h = step < low ? round - g : round + groups - g;
    if (g > h) return;
    wait(g, round);
    wait(h, round);
    for (int64_t p = g * group; p < std::min((g + 1) * group, panels); ++p) {
      const int64_t first = g == h ? p : h * group;
      for (int64_t q = first; q < std::min((h + 1) * group, panels); ++q) visit(p, q);
    }
    rounds[g].store(round + 1, std::memory_order_release);
    rounds[h].store(round + 1, std::memory_order_release);
  });
  delete[] rounds;
  parallel_tasks(panels, double(x.rows) * double(x.dim), [&](int64_t p) {
    of.finish(p);
    if (gradient != nullptr) store_rows(x, p, order, sums + p * size, gradient);
  });
  delete[] sums;
}

}  // namespace facenet::FACENET_ISA
