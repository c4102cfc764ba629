#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/ptx.cuh"
#include "cuda/row_edges.cuh"
#include "cuda/rows.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

constexpr int kWarps = kGatherWarps;
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

// An edge as it waits in shared memory for its row to be loaded.
template <class T>
struct alignas(16) Waiting {
  int64_t at;  // in bytes, of the other row's first element
  T weight;
  T factor;  // of that row
};

// Columns of a row's gradient as one warp gathers them.
template <class T>
struct Sum {
  const Rows<T>& rows;
  int32_t row;
  int32_t column;
  T sum[4] = {0, 0, 0, 0};

  // Rows whose elements are X. Where they are aligned, all loads are under way before the first has
  // its value, that of the row itself among them. Lanes beyond the last column load some that
  // nobody reads.
  template <class X>
  __device__ void add_typed(const Rows<T>& others, const Waiting<T>* waiting, int there) {
    struct alignas(sizeof(X) == 8 ? 16 : 4 * sizeof(X)) Raw {
      X x[4];
    };
    const X* const own = static_cast<const X*>(rows.data) + int64_t(row) * rows.dim;
    const char* const data = static_cast<const char*>(others.data);
    const T factor = rows.factor(row);
    T x[4];
    if (!rows.aligned || !others.aligned || rows.dim % 4 != 0) {
      const int32_t beyond = rows.dim - column;
      load_typed(own + column, beyond, false, factor, x);
#pragma unroll 1
      for (int e = 0; e < there; ++e) {
        const Waiting<T> edge = waiting[e];
        T y[4];
        load_typed(reinterpret_cast<const X*>(data + edge.at) + column, beyond, false, edge.factor,
                   y);
#pragma unroll
        for (int v = 0; v < 4; ++v) sum[v] = fma(edge.weight, x[v] - y[v], sum[v]);
      }
      return;
    }
    const int32_t first_column = min(column, rows.dim - 4);
    const Raw raw_own = *reinterpret_cast<const Raw*>(own + first_column);
    const char* const from = data + first_column * int64_t(sizeof(X));
#pragma unroll 1
    for (int first = 0; first < there; first += kAtOnce<T>) {
      Raw raw[kAtOnce<T>];
#pragma unroll
      for (int u = 0; u < kAtOnce<T>; ++u) {
        raw[u] = *reinterpret_cast<const Raw*>(from + waiting[first + u].at);
      }
#pragma unroll
      for (int v = 0; v < 4; ++v) x[v] = rounded_product(raw_own.x[v], factor);
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

  __device__ void add_waiting(const Rows<T>& others, const Waiting<T>* waiting, int there) {
    if constexpr (sizeof(T) == 8) {
      add_typed<double>(others, waiting, there);
    } else {
      switch (others.element) {
        case Element::kHalf:
          return add_typed<__half>(others, waiting, there);
        case Element::kBFloat16:
          return add_typed<__nv_bfloat16>(others, waiting, there);
        default:
          return add_typed<float>(others, waiting, there);
      }
    }
  }

  // By a warp: `count` edges get(e), in their order. Each lane looks one up. Those with a weight
  // wait in `waiting` [32], which is filled up to whole turns with the last one, without a weight.
  template <class Get>
  __device__ void add(const Rows<T>& others, int32_t count, Waiting<T>* waiting, const Get& get) {
    const int64_t row_bytes = others.dim * int64_t(element_bytes(others.element));
    for (int32_t base = 0; base < count; base += 32) {
      Edge<T> edge{0, T(0)};
      if (base + lane() < count) edge = get(base + lane());
      const uint32_t all = __ballot_sync(kAllLanes, edge.weight != T(0));
      const int there = __popc(all);
      const int before = __popc(all & ((1u << lane()) - 1));
      if (edge.weight != T(0)) {
        waiting[before] = {edge.other * row_bytes, edge.weight, others.factor(edge.other)};
      }
      __syncwarp();
      if (there + lane() < (there + kAtOnce<T> - 1) / kAtOnce<T> * kAtOnce<T>) {
        waiting[there + lane()] = waiting[there - 1];
        waiting[there + lane()].weight = T(0);
      }
      __syncwarp();
      add_waiting(others, waiting, there);
      __syncwarp();
    }
  }
};

// A block has the row at a sorted position. Multiprocessors are given blocks by turns, `apart` of
// them, so that one of them has `together` rows that lie together: rows of one class gather the
// same rows, which it then has in its first cache. Shared memory: 4 x 128 partial sums, and 4 for
// the projection; with a table, an edge of each anchor.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kBeside : 4)
    gather_edges(const Gathered<T> g, const uint32_t apart, const uint32_t together, T* out) {
  __shared__ T sums[kWarps][kColumns];
  __shared__ T along_sums[kWarps];
  __shared__ Waiting<T> waiting[kWarps][32];
  __shared__ CountedEdges counted;
  __shared__ int64_t inner[2];
  const uint32_t turn = blockIdx.x / apart;
  const int32_t position = int32_t((blockIdx.x - turn * apart) * together + turn);
  if (position >= g.rows.count) return;
  const int32_t row = g.rows.row(position);
  const int warp = int(threadIdx.x) / 32;
  if (threadIdx.x < 2) {
    counted.incoming[threadIdx.x] =
        count_below<false>(g.incoming.row, g.incoming.count, uint32_t(row) + threadIdx.x);
    inner[threadIdx.x] =
        count_below<false>(g.inner.row, g.inner.count, uint32_t(row) + threadIdx.x);
  }
  if (threadIdx.x == 32) counted.look_up_slots(g, position);
  if (threadIdx.x == 64) counted.look_up_class(g, position);
  Edges<T> edges(g, counted);
  if (g.pushes.cells != nullptr) {
    edges.find(warp, row, reinterpret_cast<FoundEdge*>(dynamic_shared_memory()));
  }
  __syncthreads();
  const T scale = *g.scale;
  for (int32_t first = 0; first < g.rows.dim; first += kColumns) {
    Sum<T> sum{g.rows, counted.row, first + 4 * lane()};
    const int32_t counted_here = edges.counted(warp);
    sum.add(g.others, counted_here + edges.found_count, waiting[warp],
            [&](int32_t e) { return edges.get(e, counted_here, warp); });
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
  sort_by_key(device, from.count, rows, from.row, row, from.edge, edge);
}

template <class T>
void gather(const Device& device, const Gathered<T>& from, T* out) {
  const size_t found_bytes = size_t(kWarps * found_room(from.pushes)) * sizeof(FoundEdge);
  const int64_t apart = device.processors();
  const int64_t together = (from.rows.count + apart - 1) / apart;
  launch("gather_edges",
         {{"rows", from.rows.count}, {"D", from.rows.dim}, {"edges", from.incoming.count}},
         device.stream(),
         {unsigned(apart * together), kThreads, from.pushes.cells == nullptr ? 0 : found_bytes},
         gather_edges<T>, from, uint32_t(apart), uint32_t(together), out);
}

template void sort_edges(const Device&, int64_t, const EdgeList<float>&, uint32_t*, Edge<float>*);
template void sort_edges(const Device&, int64_t, const EdgeList<double>&, uint32_t*, Edge<double>*);
template void gather(const Device&, const Gathered<float>&, float*);
template void gather(const Device&, const Gathered<double>&, double*);

}  // namespace facenet::cuda
