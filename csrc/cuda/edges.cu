#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/rows.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 128;  // that a block gathers at a time: 4 per lane

// Columns of a row's gradient as one warp gathers them; edge e of every list is warp e % 4's.
template <class T>
struct Sum {
  int32_t column;
  T x[4];
  T sum[4] = {0, 0, 0, 0};

  __device__ Sum(const Rows<T>& rows, int32_t row, int32_t column_) : column(column_) {
    load_columns(rows, row, column, rows.factor(row), x);
  }
  __device__ void add(const Rows<T>& others, int32_t other, T weight) {
    if (weight == T(0)) return;
    T y[4];
    load_columns(others, other, column, others.factor(other), y);
#pragma unroll
    for (int v = 0; v < 4; ++v) sum[v] = fma(weight, x[v] - y[v], sum[v]);
  }
};

// Block p: the row at sorted position p. Shared memory: 4 x 128 partial sums, and 4 for the
// projection.
template <class T>
__global__ void __launch_bounds__(kThreads, 4) gather_edges(const Gathered<T> g, T* out) {
  __shared__ T sums[kWarps][kColumns];
  __shared__ T along_sums[kWarps];
  __shared__ int64_t incoming[2], inner[2];
  const int32_t position = int32_t(blockIdx.x);
  const int32_t row = g.rows.row(position);
  const int warp = int(threadIdx.x) / 32;
  if (threadIdx.x < 2) {
    incoming[threadIdx.x] =
        count_below<false>(g.incoming.row, g.incoming.count, uint32_t(row) + threadIdx.x);
    inner[threadIdx.x] =
        count_below<false>(g.inner.row, g.inner.count, uint32_t(row) + threadIdx.x);
  }
  __syncthreads();
  const SlotEdges<T>& s = g.slot_edges;
  const T scale = *g.scale;
  const T inverse_norm = g.rows.factor(row);
  T along = 0;  // of the gradient with the unit row
  for (int32_t first = 0; first < g.rows.dim; first += kColumns) {
    Sum<T> sum(g.rows, row, first + 4 * lane());
    if (g.as_anchors) {
      const int64_t offset = s.slots.offset[position];
      const int32_t count = s.slots.count[position];
      for (int32_t k = warp; k < count; k += kWarps) {
        sum.add(g.others, g.others.row(s.class_begin[position] + k), s.positive[offset + k]);
      }
      const auto add_negative = [&](int64_t at) {
        if (s.negative[at] == kNoRow) return;
        sum.add(g.others, int32_t(s.negative[at]), s.incoming[at].weight);
      };
      if (s.negative != nullptr) {
        for (int32_t k = warp; k < count; k += kWarps) add_negative(offset + k);
        if (warp == 0) add_negative(s.slot_total + position);
      }
    }
    if (g.as_candidates) {
      for (int32_t a = g.anchors_begin[position] + warp; a < g.anchors_end[position]; a += kWarps) {
        if (s.slots.count[a] == 0) continue;
        sum.add(g.others, g.others.row(a),
                s.positive[s.slots.offset[a] + position - s.class_begin[a]]);
      }
    }
    for (int64_t e = incoming[0] + warp; e < incoming[1]; e += kWarps) {
      sum.add(g.others, g.incoming.edge[e].other, g.incoming.edge[e].weight);
    }
    for (int64_t e = inner[0] + warp; e < inner[1]; e += kWarps) {
      sum.add(g.rows, g.inner.edge[e].other, g.inner.edge[e].weight);
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) sums[warp][4 * lane() + v] = sum.sum[v];
    __syncthreads();
    const int32_t column = first + int32_t(threadIdx.x);
    if (column < g.rows.dim) {
      T total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x];
      for (int32_t p = 0; p < g.partials; ++p) {
        total += g.partial[(int64_t(p) * g.rows.count + position) * g.rows.dim + column];
      }
      total *= scale;
      out[int64_t(row) * g.rows.dim + column] = total;
      if (g.rows.inverse_norms != nullptr) {
        along = fma(total, g.rows.raw(row, column) * inverse_norm, along);
      }
    }
    __syncthreads();
  }
  if (g.rows.inverse_norms == nullptr) return;
  // u = x / |x|: the gradient keeps what is orthogonal to u, over |x|; a zero row gets none.
  along = warp_sum(along);
  if (lane() == 0) along_sums[warp] = along;
  __syncthreads();
  along = ((along_sums[0] + along_sums[1]) + along_sums[2]) + along_sums[3];
  for (int32_t column = int32_t(threadIdx.x); column < g.rows.dim; column += kThreads) {
    T& to = out[int64_t(row) * g.rows.dim + column];
    const T unit = g.rows.raw(row, column) * inverse_norm;
    to = inverse_norm == T(0) ? T(0) : (to - along * unit) * inverse_norm;
  }
}

}  // namespace

template <class T>
void sort_edges(const Device& device, int64_t rows, const EdgeList<T>& from, uint32_t* row,
                Edge<T>* edge) {
  // Of kNoRow the bits that count are all ones: it comes after every row there is.
  int bits = 1;
  while ((int64_t(1) << bits) <= rows) ++bits;
  sort_by_key(device, from.count, bits, from.row, row, from.edge, edge);
}

template <class T>
void gather(const Device& device, const Gathered<T>& from, T* out) {
  launch("gather_edges",
         {{"rows", from.rows.count}, {"D", from.rows.dim}, {"edges", from.incoming.count}},
         device.stream(), {unsigned(from.rows.count), kThreads}, gather_edges<T>, from, out);
}

template void sort_edges(const Device&, int64_t, const EdgeList<float>&, uint32_t*, Edge<float>*);
template void sort_edges(const Device&, int64_t, const EdgeList<double>&, uint32_t*, Edge<double>*);
template void gather(const Device&, const Gathered<float>&, float*);
template void gather(const Device&, const Gathered<double>&, double*);

}  // namespace facenet::cuda
