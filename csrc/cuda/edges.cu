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

// Blocks of gather_edges<float> beside each other: as many as need no spilled register.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBeside = 6;
#else
constexpr int kBeside = 7;
#endif
constexpr int kColumns = 128;  // that a block gathers at a time: 4 per lane, and one per thread
static_assert(kColumns == kThreads);
// Rows that a warp waits for at a time.
template <class T>
constexpr int kAtOnce = sizeof(T) == 4 ? 8 : 4;

// An element as load_columns has it: not contracted with the subtraction that follows, so that
// equal rows have no difference.
template <class X>
__device__ __forceinline__ float rounded_product(X x, float factor) {
  return __fmul_rn(widened(x), factor);
}
__device__ __forceinline__ double rounded_product(double x, double factor) {
  return __dmul_rn(x, factor);
}

// Groups of anchors that a warp looks at, and edges that it has room for: each may be given by a
// bit.
__host__ __device__ inline int32_t groups_of_warp(const PushBits& pushes) {
  return (pushes.groups + kWarps - 1) / kWarps;
}
__host__ __device__ inline int32_t found_room(const PushBits& pushes) {
  return groups_of_warp(pushes) * pushes.anchors;
}

// The edges of a row that are counted through, in shared memory: those to its class, its own to
// negatives and the sorted ones.
struct CountedEdges {
  int32_t row, position;
  int32_t slots;  // the first of the row as an anchor, of less than 2^31,
  int32_t count;  // and how many
  int32_t class_begin, class_count, negatives;
  int64_t incoming[2];  // begin and end

  template <class T>
  __device__ void look_up(const Gathered<T>& g, int32_t at) {
    const SlotEdges<T>& s = g.slot_edges;
    row = g.rows.row(at);
    position = at;
    slots = count = class_begin = class_count = negatives = 0;
    if (g.as_anchors) {
      slots = int32_t(s.slots.offset[position]);
      count = s.slots.count[position];
      class_begin = s.class_begin[position];
      class_count = count;
      negatives = s.negative == nullptr ? 0 : count + 1;
    }
    if (g.as_candidates) {  // of its own batch, an anchor's class is the same on both sides
      class_begin = g.anchors_begin[position];
      class_count = g.anchors_end[position] - class_begin;
    }
  }
};

// A row's edges, as the lanes of one warp find them: of those that are counted through warp w has
// every fourth from w on. Behind them come the edges that the warp found by bits.
template <class T>
struct Edges {
  const Gathered<T>& g;
  const CountedEdges& all;
  const Edge<T>* found = nullptr;  // [found_count] in shared memory
  int32_t found_count = 0;

  __device__ Edges(const Gathered<T>& from, const CountedEdges& counted) : g(from), all(counted) {}

  __device__ int32_t mine(int warp) const {
    const int64_t counted = all.incoming[1] - all.incoming[0] + all.class_count + all.negatives;
    return int32_t((counted + kWarps - 1 - warp) / kWarps) + found_count;
  }

  // The e-th of the warp.
  __device__ Edge<T> get(int32_t number, int warp) const {
    const SlotEdges<T>& s = g.slot_edges;
    const int32_t counted = mine(warp) - found_count;
    if (number >= counted) return found[number - counted];
    int64_t e = int64_t(number) * kWarps + warp;
    if (e < all.class_count) {
      const int32_t other = all.class_begin + int32_t(e);
      T weight = 0;
      if (all.count > 0) weight += s.positive[all.slots + e];
      if (g.as_candidates && s.slots.count[other] > 0) {
        weight += s.positive[s.slots.offset[other] + all.position - s.class_begin[other]];
      }
      return {g.others.row(other), weight};
    }
    e -= all.class_count;
    if (e >= all.negatives) return g.incoming.edge[all.incoming[0] + e - all.negatives];
    const int64_t at = e < all.count ? all.slots + e : s.slot_total + all.position;
    const uint32_t negative = s.negative[at];
    return {int32_t(negative), negative == kNoRow ? T(0) : s.incoming[at].weight};
  }

  // By a warp, half of which has an anchor: adds to the weights of `edges` those of slot k of each
  // of 2 kAtOnce<T> anchors, from the e-th on, whose edge is to the row. `slot_count` and `offset`
  // are those of lane's anchor.
  __device__ void find_slots(int32_t row, int32_t k, int32_t e, int32_t slot_count, int32_t offset,
                             Edge<T>* edges) {
    const SlotEdges<T>& s = g.slot_edges;
    e += lane() / 16;
    int32_t at[kAtOnce<T>];
    bool there[kAtOnce<T>];
#pragma unroll
    for (int u = 0; u < kAtOnce<T>; ++u) {
      const int32_t count = __shfl_sync(kAllLanes, slot_count, e + 2 * u);
      at[u] = __shfl_sync(kAllLanes, offset, e + 2 * u) + max(min(k, count - 1), 0);
      there[u] = (s.negative[at[u]] == uint32_t(row)) & (k < count);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce<T>; ++u) {
      const uint32_t those = __ballot_sync(kAllLanes, there[u]);
      if (those == 0) continue;
      // One lane of a half has found it, or several where positives drew the same row.
      T weight = there[u] ? s.incoming[at[u]].weight : T(0);
      if ((those & (those - 1)) != 0) {
#pragma unroll
        for (int apart = 8; apart > 0; apart /= 2) {
          weight += __shfl_xor_sync(kAllLanes, weight, apart);
        }
      }
      const uint32_t own = those >> lane() / 16 * 16 & 0xffff;
      if (lane() % 16 == __ffs(int(own)) - 1) edges[e + 2 * u].weight += weight;
    }
  }

  // By a warp: those of its share of the anchors whose bits say that they push the row. The weight
  // is that of the anchor's edges to the row, found in its slots.
  __device__ void find(int warp, int32_t row, Edge<T>* edges) {
    const SlotEdges<T>& s = g.slot_edges;
    const PushBits& pushes = g.pushes;
    const int32_t each = groups_of_warp(pushes), end = min(each * (warp + 1), pushes.groups);
    const uint16_t* const halves = reinterpret_cast<const uint16_t*>(pushes.words) + row;
    edges += found_room(pushes) * warp;
    for (int32_t base = each * warp; base < end; base += 64) {  // a lane has two groups
      const int32_t group = base + 2 * lane();
      uint32_t bits = 0;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        if (group + n >= end) continue;
        bits |= uint32_t(halves[int64_t(group + n) * pushes.row_words * 2]) << 16 * n;
      }
      // Lanes with the smaller groups come first.
      int32_t all = __popc(bits);
      int32_t before = found_count - all;
#pragma unroll
      for (int apart = 1; apart < 32; apart *= 2) {
        const int32_t other = __shfl_up_sync(kAllLanes, all, apart);
        if (lane() >= apart) all += other;
      }
      before += all;
      found_count += __shfl_sync(kAllLanes, all, 31);
      for (; bits != 0; bits &= bits - 1) {
        const int b = __ffs(int(bits)) - 1;
        edges[before++].other = pushes.anchors * (group + b / 16) + b % 16;
      }
    }
    __syncwarp();
    // 32 edges at a time: a lane looks an anchor up, and all lanes its slots, of which one or more
    // have an edge to the row. Beside them the farthest's may be one.
    for (int32_t base = 0; base < found_count; base += 32) {
      const int32_t there = min(found_count - base, 32);
      int32_t slot_count = 0, offset = 0;
      if (lane() < there) {
        Edge<T>& edge = edges[base + lane()];
        const int32_t anchor = edge.other;
        const int64_t farthest = s.slot_total + anchor;
        slot_count = s.slots.count[anchor];
        offset = int32_t(s.slots.offset[anchor]);
        edge = {g.others.row(anchor),
                s.negative[farthest] == uint32_t(row) ? s.incoming[farthest].weight : T(0)};
      }
      __syncwarp();
      const int32_t most = warp_max(slot_count);
      for (int32_t k = lane() % 16; k - lane() % 16 < most; k += 16) {
        for (int32_t e = 0; e < there; e += 2 * kAtOnce<T>) {
          find_slots(row, k, e, slot_count, offset, edges + base);
        }
        __syncwarp();  // the next turn's lanes add to what other lanes have added
      }
      __syncwarp();
    }
    found = edges;
  }
};

// An edge as it waits in shared memory for its row to be loaded.
template <class T>
struct alignas(16) Waiting {
  int64_t at;  // of the other row's first element
  T weight;
  T factor;  // of that row
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

  // Rows whose elements are X, aligned. All loads are under way before the first has its value.
  // Lanes beyond the last column load some that nobody reads.
  template <class X>
  __device__ void add_typed(const Rows<T>& rows, const Waiting<T>* waiting, int there) {
    struct alignas(sizeof(X) == 8 ? 16 : 4 * sizeof(X)) Raw {
      X x[4];
    };
    const X* const from = static_cast<const X*>(rows.data) + min(column, rows.dim - 4);
    for (int first = 0; first < there; first += kAtOnce<T>) {
      Raw raw[kAtOnce<T>];
#pragma unroll
      for (int u = 0; u < kAtOnce<T>; ++u) {
        raw[u] = *reinterpret_cast<const Raw*>(from + waiting[first + u].at);
      }
#pragma unroll
      for (int u = 0; u < kAtOnce<T>; ++u) {
        const Waiting<T> edge = waiting[first + u];
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          sum[v] = fma(edge.weight, x[v] - rounded_product(raw[u].x[v], edge.factor), sum[v]);
        }
      }
    }
  }

  __device__ void add_waiting(const Rows<T>& rows, const Waiting<T>* waiting, int there) {
    if (!rows.aligned || rows.dim % 4 != 0) {
#pragma unroll 4
      for (int e = 0; e < there; ++e) {
        T y[4];
        load_columns(rows, int32_t(waiting[e].at / rows.dim), column, waiting[e].factor, y);
#pragma unroll
        for (int v = 0; v < 4; ++v) sum[v] = fma(waiting[e].weight, x[v] - y[v], sum[v]);
      }
    } else if constexpr (sizeof(T) == 8) {
      add_typed<double>(rows, waiting, there);
    } else {
      switch (rows.element) {
        case Element::kHalf:
          return add_typed<__half>(rows, waiting, there);
        case Element::kBFloat16:
          return add_typed<__nv_bfloat16>(rows, waiting, there);
        default:
          return add_typed<float>(rows, waiting, there);
      }
    }
  }

  // By a warp: `count` edges get(e), in their order. Each lane looks one up. Those with a weight
  // wait in `waiting` [32], which is filled up to whole turns with the last one, without a weight.
  template <class Get>
  __device__ void add(const Rows<T>& others, int32_t count, Waiting<T>* waiting, const Get& get) {
    for (int32_t base = 0; base < count; base += 32) {
      Edge<T> edge{0, T(0)};
      if (base + lane() < count) edge = get(base + lane());
      const uint32_t all = __ballot_sync(kAllLanes, edge.weight != T(0));
      const int there = __popc(all);
      const int before = __popc(all & ((1u << lane()) - 1));
      const Waiting<T> own{int64_t(edge.other) * others.dim, edge.weight,
                           edge.weight != T(0) ? others.factor(edge.other) : T(0)};
      if (edge.weight != T(0)) waiting[before] = own;
      if (edge.weight != T(0) && before + 1 == there) {
        for (int e = there; e % kAtOnce<T> != 0; ++e) waiting[e] = {own.at, T(0), own.factor};
      }
      __syncwarp();
      add_waiting(others, waiting, there);
      __syncwarp();
    }
  }
};

// A block has the row at a sorted position. Multiprocessors are given blocks by turns, `apart` of
// them, so that one of them has rows that lie together: rows of one class gather the same rows,
// which it then has in its first cache. Shared memory: 4 x 128 partial sums, and 4 for the
// projection; with bits, an edge of each anchor.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kBeside : 4)
    gather_edges(const Gathered<T> g, const int32_t apart, T* out) {
  __shared__ T sums[kWarps][kColumns];
  __shared__ T along_sums[kWarps];
  __shared__ Waiting<T> waiting[kWarps][32];
  __shared__ CountedEdges counted;
  __shared__ int64_t inner[2];
  const int32_t together = int32_t(gridDim.x) / apart;
  const int32_t position = int32_t(blockIdx.x) % apart * together + int32_t(blockIdx.x) / apart;
  if (position >= g.rows.count) return;
  const int32_t row = g.rows.row(position);
  const int warp = int(threadIdx.x) / 32;
  if (threadIdx.x < 2) {
    counted.incoming[threadIdx.x] =
        count_below<false>(g.incoming.row, g.incoming.count, uint32_t(row) + threadIdx.x);
    inner[threadIdx.x] =
        count_below<false>(g.inner.row, g.inner.count, uint32_t(row) + threadIdx.x);
  }
  if (threadIdx.x == 32) counted.look_up(g, position);  // meanwhile
  __syncthreads();
  Edges<T> edges(g, counted);
  if (g.pushes.words != nullptr) {
    edges.find(warp, row, reinterpret_cast<Edge<T>*>(dynamic_shared_memory()));
  }
  const T scale = *g.scale;
  for (int32_t first = 0; first < g.rows.dim; first += kColumns) {
    Sum<T> sum(g.rows, counted.row, first + 4 * lane());
    sum.add(g.others, edges.mine(warp), waiting[warp],
            [&](int32_t e) { return edges.get(e, warp); });
    if (inner[1] > inner[0]) {
      const auto count = int32_t((inner[1] - inner[0] + kWarps - 1 - warp) / kWarps);
      sum.add(g.rows, count, waiting[warp],
              [&](int32_t e) { return g.inner.edge[inner[0] + int64_t(e) * kWarps + warp]; });
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
        total += g.partial[(int64_t(p) * g.rows.count + counted.position) * g.rows.dim + column];
      }
      total *= scale;
      out[int64_t(counted.row) * g.rows.dim + column] = total;
    }
    __syncthreads();
  }
  if (g.rows.inverse_norms == nullptr) return;
  // u = x / |x|: the gradient keeps what is orthogonal to u, over |x|; a zero row gets none. A
  // thread reads what it has written.
  const T inverse_norm = g.rows.factor(row);
  T along = 0;  // of the gradient with the unit row
  for (int32_t column = int32_t(threadIdx.x); column < g.rows.dim; column += kThreads) {
    along =
        fma(out[int64_t(row) * g.rows.dim + column], g.rows.raw(row, column) * inverse_norm, along);
  }
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
  const size_t found_bytes = size_t(kWarps * found_room(from.pushes)) * sizeof(Edge<T>);
  const int64_t apart = device.processors();
  const int64_t blocks = (from.rows.count + apart - 1) / apart * apart;
  launch("gather_edges",
         {{"rows", from.rows.count}, {"D", from.rows.dim}, {"edges", from.incoming.count}},
         device.stream(),
         {unsigned(blocks), kThreads, from.pushes.words == nullptr ? 0 : found_bytes},
         gather_edges<T>, from, int32_t(apart), out);
}

template void sort_edges(const Device&, int64_t, const EdgeList<float>&, uint32_t*, Edge<float>*);
template void sort_edges(const Device&, int64_t, const EdgeList<double>&, uint32_t*, Edge<double>*);
template void gather(const Device&, const Gathered<float>&, float*);
template void gather(const Device&, const Gathered<double>&, double*);

}  // namespace facenet::cuda
