// Compiled once per instruction set: see kernels.h.
#include "cpu/kernels.h"

#include "cpu/epilogues/band.h"
#include "cpu/epilogues/extremum.h"
#include "cpu/epilogues/histogram.h"
#include "cpu/epilogues/nearest.h"
#include "cpu/epilogues/positives.h"
#include "cpu/epilogues/random.h"
#include "cpu/epilogues/softmax.h"
#include "cpu/epilogues/store.h"
#include "cpu/epilogues/successor.h"
#include "cpu/epilogues/within.h"
#include "cpu/pair_stream.h"
#include "cpu/simd.h"

namespace facenet::FACENET_ISA {
namespace {

// One task packs one panel: kPanel rows, gathered by `order`, transposed block by block.
template <class T>
void pack(const T* values, const int32_t* order, int64_t rows, int64_t dim, T* out) {
  parallel_tasks(panel_count(rows), double(rows) * double(dim), [&](int64_t p) {
    T* panel = out + p * dim * kPanel;
    alignas(64) T block[W<T> * W<T>];
    for (int64_t r = 0; r < kPanel; r += W<T>) {
      const T* source[W<T>];
      for (int l = 0; l < W<T>; ++l) {
        const int64_t i = p * kPanel + r + l;
        source[l] = i < rows ? values + int64_t(order[i]) * dim : nullptr;
      }
      int64_t k = 0;
      for (; k + W<T> <= dim; k += W<T>) {
        for (int l = 0; l < W<T>; ++l) {
          store(block + l * W<T>, source[l] ? load(source[l] + k) : Vec<T>{});
        }
        transpose(block, W<T>, panel + k * kPanel + r, kPanel);
      }
      for (; k < dim; ++k) {
        for (int l = 0; l < W<T>; ++l) panel[k * kPanel + r + l] = source[l] ? source[l][k] : T(0);
      }
    }
  });
}

template <class T>
void store_all(const Pairs<T>& pairs, Store<T> to) {
  stream_pairs(pairs, StoreEpilogue<T>{to, pairs.candidates.rows});
}

template <class T>
void positives(const Pairs<T>& pairs, Positives<T> to) {
  stream_pairs(pairs, PositivesEpilogue<T>{to});
}

template <class T>
void extreme_positives(const Pairs<T>& pairs, Extremum<T> to, bool farthest) {
  if (farthest) {
    stream_pairs(pairs, ExtremumEpilogue<T, Which::kPositives, true>{pairs, to});
  } else {
    stream_pairs(pairs, ExtremumEpilogue<T, Which::kPositives, false>{pairs, to});
  }
}

template <class T>
void successors(const Pairs<T>& pairs, Successors<T> to) {
  const SuccessorPanels<T> panels(pairs, to);
  stream_pairs(pairs, SuccessorEpilogue<T>{pairs, to, panels, {pairs, to.farthest}});
}

template <class T>
void band(const BandKernel<T>& kernel) {
  const bool by_rows = kernel.rows.pairs != nullptr;
  const Pairs<T>& pairs = by_rows ? *kernel.rows.pairs : *kernel.columns.pairs;
  const Panels<T>& x = by_rows ? pairs.anchors : pairs.candidates;
  const Panels<T>& y = by_rows ? pairs.candidates : pairs.anchors;
  BandWeights<T> weights(kernel);
  if (by_rows && kernel.columns.pairs != nullptr) {
    push_both(x, weights, kernel.order, kernel.gradient);
  } else {
    push(x, y, weights, kernel.order, kernel.gradient);
  }
}

template <class T>
void softmax_sums(const SoftmaxKernel<T>& kernel) {
  const SoftmaxTiles<T> tiles(kernel);
  SoftmaxSums<T> sums(kernel);
  push(tiles.rows(), tiles.columns(), sums, nullptr, static_cast<T*>(nullptr));
}

template <class T>
void softmax_positives(const SoftmaxKernel<T>& kernel) {
  stream_pairs(*kernel.pairs, SoftmaxPositives<T>{kernel});
}

template <class T>
void softmax_push(const SoftmaxKernel<T>& kernel, const int32_t* order, T* gradient) {
  const SoftmaxTiles<T> tiles(kernel);
  SoftmaxWeights<T> weights(kernel);
  push(tiles.rows(), tiles.columns(), weights, order, gradient);
}

template <class T>
void histogram(const Pairs<T>& pairs, const Histogram& to) {
  stream_pairs(pairs, HistogramEpilogue<T>(pairs, to));
}

template <class T>
void nearest(const Pairs<T>& pairs, Nearest<T> to) {
  stream_pairs(pairs, NearestEpilogue<T>{pairs, to});
}

template <class T>
void within(const Pairs<T>& pairs, Within<T> to) {
  stream_pairs(pairs, WithinEpilogue<T>{to});
}

template <class T>
void random_negatives(const Pairs<T>& pairs, const RandomNegatives<T>& to, bool weighted) {
  if (weighted) {
    stream_pairs(pairs, RandomEpilogue<T, WeightedDraws<T>>{pairs, to});
  } else {
    stream_pairs(pairs, RandomEpilogue<T, UniformDraws<T>>{pairs, to});
  }
}

// Counting, branch-free: quadratic, and faster than a sort up to some 64 values.
template <class T>
void rank(const T* values, int64_t count, int32_t* rank) {
  for (int64_t k = 0; k < count; ++k) {
    const T v = values[k];
    int32_t before = 0;
    for (int64_t j = 0; j < k; ++j) before += values[j] <= v;
    for (int64_t j = k + 1; j < count; ++j) before += values[j] < v;
    rank[k] = before;
  }
}

// x * 0 is NaN for NaN and for infinities, and 0 otherwise.
template <class T>
bool all_finite(const T* x, int64_t count) {
  Vec<T> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * W<T> <= count; i += 4 * W<T>) {
    for (int s = 0; s < 4; ++s) sum[s] += load(x + i + s * W<T>) * T(0);
  }
  const Vec<T> lanes = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  T total = 0;
  for (int l = 0; l < W<T>; ++l) total += lanes[l];
  for (; i < count; ++i) total += x[i] * T(0);
  return total == T(0);
}

template <class T>
T squared_distance(const T* a, const T* b, int64_t dim) {
  Vec<T> sum[4] = {};
  int64_t k = 0;
  for (; k + 4 * W<T> <= dim; k += 4 * W<T>) {
    for (int s = 0; s < 4; ++s) {
      const Vec<T> difference = load(a + k + s * W<T>) - load(b + k + s * W<T>);
      sum[s] += difference * difference;
    }
  }
  const Vec<T> lanes = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  T total = 0;
  for (int l = 0; l < W<T>; ++l) total += lanes[l];
  for (; k < dim; ++k) total += (a[k] - b[k]) * (a[k] - b[k]);
  return total;
}

// Sums kColumns vectors of a row over all its edges, so that the sum stays in registers.
template <class T, int kColumns>
void gather_columns(const T* x, int64_t dim, int64_t r, int64_t k, const Edges<T>* sets,
                    int set_count, T scale, bool add, T* out) {
  Vec<T> own[kColumns], sum[kColumns] = {};
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    own[c] = load(x + r * dim + k + c * W<T>);
    if (add) sum[c] = load(out + r * dim + k + c * W<T>);
  }
  for (int s = 0; s < set_count; ++s) {
    const Edges<T>& edges = sets[s];
    for (int64_t e = edges.begin[r]; e < edges.begin[r + 1]; ++e) {
      const T* other = edges.rows + int64_t(edges.other[e]) * dim + k;
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        sum[c] += edges.coefficient[e] * (own[c] - load(other + c * W<T>));
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) store(out + r * dim + k + c * W<T>, scale * sum[c]);
}

template <class T>
void gather_edges(const T* x, int64_t dim, int64_t begin, int64_t end, const Edges<T>* sets,
                  int set_count, T scale, bool add, T* out) {
  for (int64_t r = begin; r < end; ++r) {
    int64_t k = 0;
    for (; k + 8 * W<T> <= dim; k += 8 * W<T>) {
      gather_columns<T, 8>(x, dim, r, k, sets, set_count, scale, add, out);
    }
    for (; k + W<T> <= dim; k += W<T>) {
      gather_columns<T, 1>(x, dim, r, k, sets, set_count, scale, add, out);
    }
    for (; k < dim; ++k) {
      T sum = add ? out[r * dim + k] : T(0);
      for (int s = 0; s < set_count; ++s) {
        const Edges<T>& edges = sets[s];
        for (int64_t e = edges.begin[r]; e < edges.begin[r + 1]; ++e) {
          sum += edges.coefficient[e] *
                 (x[r * dim + k] - edges.rows[int64_t(edges.other[e]) * dim + k]);
        }
      }
      out[r * dim + k] = scale * sum;
    }
  }
}

}  // namespace

template <class T>
const Kernels<T>& table() {
  static constexpr Kernels<T> kTable = {pack<T>,
                                        store_all<T>,
                                        positives<T>,
                                        extreme_positives<T>,
                                        successors<T>,
                                        random_negatives<T>,
                                        band<T>,
                                        softmax_sums<T>,
                                        softmax_positives<T>,
                                        softmax_push<T>,
                                        histogram<T>,
                                        nearest<T>,
                                        within<T>,
                                        rank<T>,
                                        all_finite<T>,
                                        squared_distance<T>,
                                        gather_edges<T>};
  return kTable;
}

template const Kernels<float>& table();
template const Kernels<double>& table();

}  // namespace facenet::FACENET_ISA
