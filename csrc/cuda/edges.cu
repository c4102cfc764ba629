#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 128;  // that a block gathers at a time: 4 per lane
// Rows that a warp waits for together.
template <class T>
constexpr int kAtOnce = sizeof(T) == 4 ? 8 : 4;

// Edges that the warps of a block have room for, where each may be given by a bit.
__host__ __device__ constexpr int64_t found_room(int64_t anchors) {
  const int64_t all = kWarps * PushBits::kAnchors;
  return (anchors + all - 1) / all * all;
}

// A row's edges, as the lanes of one warp find them: those to its class, its own to negatives and
// the sorted ones are counted through, and warp w has every fourth from w on. Behind them come the
// edges that the warp found by bits.
template <class T>
struct Edges {
  const Gathered<T>& g;
  int32_t position;
  int64_t slots;  // the first of the row as an anchor,
  int32_t count;  // and how many
  int32_t class_begin, class_count;
  int64_t negatives, first_incoming, incoming;
  const int32_t* found;  // [found_count] in shared memory, with
  const T* found_weight;
  int32_t found_count = 0;

  __device__ Edges(const Gathered<T>& from, int32_t at, const int64_t (&sorted)[2])
      : g(from), position(at), slots(0), count(0), class_begin(0), class_count(0), negatives(0) {
    const SlotEdges<T>& s = g.slot_edges;
    if (g.as_anchors) {
      slots = s.slots.offset[position];
      count = s.slots.count[position];
      class_begin = s.class_begin[position];
      class_count = count;
      negatives = s.negative == nullptr ? 0 : int64_t(count) + 1;
    }
    if (g.as_candidates) {  // of its own batch, an anchor's class is the same on both sides
      class_begin = g.anchors_begin[position];
      class_count = g.anchors_end[position] - class_begin;
    }
    first_incoming = sorted[0];
    incoming = sorted[1] - sorted[0];
  }

  __device__ int64_t mine(int warp) const {
    return (class_count + negatives + incoming + kWarps - 1 - warp) / kWarps + found_count;
  }

  // The e-th of the warp.
  __device__ Edge<T> get(int64_t e, int warp) const {
    const SlotEdges<T>& s = g.slot_edges;
    const int64_t shared_edges = mine(warp) - found_count;
    if (e >= shared_edges) return {found[e - shared_edges], found_weight[e - shared_edges]};
    e = e * kWarps + warp;
    if (e < class_count) {
      const int32_t other = class_begin + int32_t(e);
      T weight = 0;
      if (count > 0) weight += s.positive[slots + e];
      if (g.as_candidates && s.slots.count[other] > 0) {
        weight += s.positive[s.slots.offset[other] + position - s.class_begin[other]];
      }
      return {g.others.row(other), weight};
    }
    e -= class_count;
    if (e >= negatives) return g.incoming.edge[first_incoming + e - negatives];
    const int64_t at = e < count ? slots + e : s.slot_total + position;
    const uint32_t negative = s.negative[at];
    return {int32_t(negative), negative == kNoRow ? T(0) : s.incoming[at].weight};
  }

  // By a warp: those of its share of the anchors whose bits say that they push the row. The weight
  // is that of the anchor's edges to the row, found in its slots.
  __device__ void find(int warp, int32_t row, int32_t* others, T* weights) {
    const SlotEdges<T>& s = g.slot_edges;
    const int32_t groups = (g.others.count + PushBits::kAnchors - 1) / PushBits::kAnchors;
    const int32_t each = (groups + kWarps - 1) / kWarps;
    const int32_t end = min(each * (warp + 1), groups);
    const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(g.pushes.words) + row;
    others += each * warp * PushBits::kAnchors;
    weights += each * warp * PushBits::kAnchors;
#pragma unroll 2
    for (int32_t base = each * warp; base < end; base += 32) {
      const int32_t group = base + lane();
      const uint32_t bits = group < end ? bytes[int64_t(group) * g.pushes.row_words * 4] : 0;
#pragma unroll
      for (int b = 0; b < PushBits::kAnchors; ++b) {
        const bool pushes = (bits >> b & 1) != 0;
        const uint32_t all = __ballot_sync(kAllLanes, pushes);
        const int32_t before = __popc(all & ((1u << lane()) - 1));
        if (pushes) others[found_count + before] = PushBits::kAnchors * group + b;
        found_count += __popc(all);
      }
    }
    __syncwarp();
    for (int32_t e = lane(); e < found_count; e += 32) {
      const int32_t anchor = others[e], slot_count = s.slots.count[anchor];
      const int64_t offset = s.slots.offset[anchor], farthest = s.slot_total + anchor;
      T weight = s.negative[farthest] == uint32_t(row) ? s.incoming[farthest].weight : T(0);
#pragma unroll 8
      for (int32_t k = 0; k < slot_count; ++k) {
        if (s.negative[offset + k] == uint32_t(row)) weight += s.incoming[offset + k].weight;
      }
      others[e] = g.others.row(anchor);
      weights[e] = weight;
    }
    __syncwarp();
    found = others;
    found_weight = weights;
  }
};

// Columns of a row's gradient as one warp gathers them.
template <class T>
struct Sum {
  int32_t column;
  T x[4];
  T sum[4] = {0, 0, 0, 0};

  __device__ Sum(const Rows<T>& rows, int32_t row, int32_t column_) : column(column_) {
    load_columns(rows, row, column, rows.factor(row), x);
  }

  // By a warp: `count` edges get(e), in their order. Each lane looks one up, and rows are loaded
  // kAtOnce<T> at a time.
  template <class Get>
  __device__ void add(const Rows<T>& others, int64_t count, const Get& get) {
    for (int64_t base = 0; base < count; base += 32) {
      Edge<T> edge{0, T(0)};
      if (base + lane() < count) edge = get(base + lane());
      const T factor = edge.weight != T(0) ? others.factor(edge.other) : T(0);
      uint32_t left = __ballot_sync(kAllLanes, edge.weight != T(0));
      while (left != 0) {
        T y[kAtOnce<T>][4], weight[kAtOnce<T>];
#pragma unroll
        for (int u = 0; u < kAtOnce<T>; ++u) {
          const int from = __ffs(int(left)) - 1;  // -1: there is none, and 31 will do
          const int32_t other = __shfl_sync(kAllLanes, edge.other, from & 31);
          const T its_factor = __shfl_sync(kAllLanes, factor, from & 31);
          weight[u] = left != 0 ? __shfl_sync(kAllLanes, edge.weight, from & 31) : T(0);
          if (left != 0) load_columns(others, other, column, its_factor, y[u]);
          left &= left - 1;
        }
#pragma unroll
        for (int u = 0; u < kAtOnce<T>; ++u) {
          if (weight[u] == T(0)) break;
#pragma unroll
          for (int v = 0; v < 4; ++v) sum[v] = fma(weight[u], x[v] - y[u][v], sum[v]);
        }
      }
    }
  }
};

// Block p: the row at sorted position p. Shared memory: 4 x 128 partial sums, and 4 for the
// projection; with bits, an edge of each anchor.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 5 : 4)
    gather_edges(const Gathered<T> g, T* out) {
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
  Edges<T> edges(g, position, incoming);
  if (g.pushes.words != nullptr) {
    T* const weights = reinterpret_cast<T*>(dynamic_shared_memory());
    edges.find(warp, row, reinterpret_cast<int32_t*>(weights + found_room(g.others.count)),
               weights);
  }
  const T scale = *g.scale;
  const T inverse_norm = g.rows.factor(row);
  T along = 0;  // of the gradient with the unit row
  for (int32_t first = 0; first < g.rows.dim; first += kColumns) {
    Sum<T> sum(g.rows, row, first + 4 * lane());
    sum.add(g.others, edges.mine(warp), [&](int64_t e) { return edges.get(e, warp); });
    if (inner[1] > inner[0]) {
      sum.add(g.rows, (inner[1] - inner[0] + kWarps - 1 - warp) / kWarps,
              [&](int64_t e) { return g.inner.edge[inner[0] + e * kWarps + warp]; });
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
  const size_t found_bytes = size_t(found_room(from.others.count)) * (sizeof(T) + sizeof(int32_t));
  launch("gather_edges",
         {{"rows", from.rows.count}, {"D", from.rows.dim}, {"edges", from.incoming.count}},
         device.stream(),
         {unsigned(from.rows.count), kThreads, from.pushes.words == nullptr ? 0 : found_bytes},
         gather_edges<T>, from, out);
}

template void sort_edges(const Device&, int64_t, const EdgeList<float>&, uint32_t*, Edge<float>*);
template void sort_edges(const Device&, int64_t, const EdgeList<double>&, uint32_t*, Edge<double>*);
template void gather(const Device&, const Gathered<float>&, float*);
template void gather(const Device&, const Gathered<double>&, double*);

}  // namespace facenet::cuda
