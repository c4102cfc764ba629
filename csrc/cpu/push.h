// The gradient over all pairs: row r of one side gets minus the sum over the columns c, which are
// the other side's rows, of w(r, c) (x_r - y_c).
//
// N^2 weights are too many to keep. Each is added to the gradient while its tile is there, by
// direct differences. A sum of floating-point numbers needs one order, so each panel of rows has
// one writer, which meets the columns in ascending order. Nothing is saved by symmetry.
//
// The weights come from a class with
//   using Arguments;
//   explicit Weights(const Arguments&);   one for each panel of rows
//   bool weigh(p, q, weights)             whether any weight is not 0
//   void finish(p)                        after the last column
// `weigh` computes the tile of row panel p and column panel q as it likes (compute_tile), and
// leaves its weights as [column][row]. It may also add to statistics of the rows of p, the last of
// them in `finish(p)`. What only has statistics returns false, and gets no gradient to fill.
#pragma once

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

// `gradient` [x.rows, dim], in the order of the caller: order[position]. Null: not wanted.
template <class Weights, class T>
void push(const Panels<T>& x, const Panels<T>& y, const typename Weights::Arguments& arguments,
          const int32_t* order, T* gradient) {
  const int64_t p_count = panel_count(x.rows), q_count = panel_count(y.rows);
  const double work = double(x.rows) * double(y.rows) * double(x.dim + kDepth) / 4;
  parallel_tasks(p_count, work, [&](int64_t p) {
    T* sum = nullptr;
    if (gradient != nullptr) {
      sum = new T[x.dim * kPanel];
      std::fill_n(sum, x.dim * kPanel, T(0));
    }
    Weights of(arguments);
    Tile<T> weights;
    for (int64_t q = 0; q < q_count; ++q) {
      if (of.weigh(p, q, weights)) push_tile(x.panel(p), y.panel(q), weights, x.dim, sum);
    }
    of.finish(p);
    if (sum == nullptr) return;
    for (int64_t r = 0; r < kPanel && p * kPanel + r < x.rows; ++r) {
      T* row = gradient + int64_t(order[p * kPanel + r]) * x.dim;
      for (int64_t k = 0; k < x.dim; ++k) row[k] = sum[k * kPanel + r];
    }
    delete[] sum;
  });
}

}  // namespace facenet::FACENET_ISA
