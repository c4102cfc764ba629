// The gradient over all pairs: row r of one side gets minus the sum over the columns c, which are
// the other side's rows, of w(r, c) (x_r - y_c), by differences.
//
// A tile's distances go to shared memory, where thread t owns row t and overwrites them with
// weights. Then thread (u, v) of 8 x 8 has 8 rows and, of 32 coordinates at a time, 4, and adds up
// the columns in order. The sums go to the block's own stripe of the result, so the order of
// additions does not depend on the scheduler. edges.cu adds the stripes up.
//
// The weights come from a class with
//   using Value; using Arguments;
//   Weights(arguments, row)            one for each thread, which lasts for the whole stripe
//   bool weigh(first_column, columns, row_of_tile)
//                                      whether any weight of the thread's row is not 0
// `weigh` finds the distances of its row to `columns` columns in row_of_tile[0 .. columns - 1], and
// leaves weights there. A row beyond the last gets weights of 0. It may also keep statistics of its
// row. What only has statistics returns false, and gets no gradient to fill.
//
// Shared memory: [64][68] of T, 17 KiB for float, 34 KiB for double.
#pragma once

#include "cuda/fma_loop.cuh"
#include "cuda/launch.h"
#include "cuda/pair_stream.cuh"
#include "cuda/push.h"

namespace facenet::cuda {

constexpr int kPushPitch = kPushTile + 4;  // so that columns do not begin in the same bank

// A row of a tile, by column.
template <class T>
struct RowOfTile {
  T* first;
  __device__ T& operator[](int column) const { return first[column * kPushPitch]; }
};

template <class Weights>
struct PushArguments {
  typename Weights::Arguments weights;
  typename Weights::Value* gradient;  // [stripes, rows, dim] by sorted position; null: not wanted
};

template <class Weights>
class PushEpilogue {
 public:
  using T = typename Weights::Value;
  using Arguments = PushArguments<Weights>;

  __host__ __device__ static constexpr int shared_bytes(int) {
    return kPushTile * kPushPitch * int(sizeof(T));
  }
  __device__ PushEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to),
        pairs_(pairs),
        w_(reinterpret_cast<T*>(shared)),
        first_row_(int32_t(blockIdx.x) * kPushTile),
        weights_(to.weights, first_row_ + int32_t(threadIdx.x)) {}

  template <class Loop>
  __device__ bool begin(int32_t) {
    static_assert(Loop::kTileRows == kPushTile && Loop::kTileColumns == kPushTile &&
                  Loop::kThreads == kPushTile);
    return true;
  }

  template <class Loop>
  __device__ void consume(int32_t first_column, const ThreadTile<T>& tile) {
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int c = 0; c < 8; ++c) at(Loop::tile_column(c), Loop::tile_row(r)) = tile.d[r][c];
    }
    __syncthreads();
    const int32_t columns = min(kPushTile, pairs_.candidates.count - first_column);
    const bool any = weights_.weigh(first_column, columns, RowOfTile<T>{w_ + threadIdx.x});
    if (__syncthreads_or(any) != 0 && to_.gradient != nullptr) push(first_column, columns);
    __syncthreads();  // the weights are read no more
  }

 private:
  __device__ T& at(int column, int row) { return w_[column * kPushPitch + row]; }

  __device__ void push(int32_t first_column, int32_t columns) {
    constexpr int kEach = 4, kChunk = 8 * kEach;
    const int u = int(threadIdx.x) / 8, v = int(threadIdx.x) % 8;
    const Rows<T>&x = pairs_.anchors, &y = pairs_.candidates;
    T* const to = to_.gradient + int64_t(blockIdx.y) * x.count * x.dim;
    for (int32_t k0 = 0; k0 < x.dim; k0 += kChunk) {
      const int32_t k = k0 + kEach * v;
      if (k >= x.dim) continue;
      T own[8][kEach] = {}, sum[8][kEach] = {};
#pragma unroll
      for (int r = 0; r < 8; ++r) {
        const int32_t i = first_row_ + 8 * u + r;
        if (i < x.count) load_columns(x, x.row(i), k, x.factor(x.row(i)), own[r]);
      }
#pragma unroll 1
      for (int32_t c = 0; c < columns; ++c) {
        const int32_t row = y.row(first_column + c);
        T other[kEach];
        load_columns(y, row, k, y.factor(row), other);
#pragma unroll
        for (int r = 0; r < 8; ++r) {
          const T weight = at(c, 8 * u + r);
#pragma unroll
          for (int e = 0; e < kEach; ++e) sum[r][e] = fma(weight, own[r][e] - other[e], sum[r][e]);
        }
      }
#pragma unroll
      for (int r = 0; r < 8; ++r) {
        const int32_t i = first_row_ + 8 * u + r;
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
          if (i < x.count && k + e < x.dim) to[int64_t(i) * x.dim + k + e] -= sum[r][e];
        }
      }
    }
  }

  const Arguments& to_;
  const Pairs<T>& pairs_;
  T* const w_;
  const int32_t first_row_;
  Weights weights_;
};

// Launches the pass; `gradient` is null where only statistics are wanted.
template <class Weights>
void push(const char* name, const PushPass<typename Weights::Value>& pass,
          const typename Weights::Arguments& weights, typename Weights::Value* gradient) {
  using Loop = FmaLoop<typename Weights::Value>;
  using Epilogue = PushEpilogue<Weights>;
  launch(name, sizes_of(pass.pairs), pass.device.stream(),
         {pass.grid, dim3(Loop::kThreads),
          size_t(Loop::kSharedBytes + Epilogue::shared_bytes(Loop::kTileRows))},
         pair_stream<Loop, Epilogue>, pass.pairs, PushArguments<Weights>{weights, gradient},
         pass.stripes, Guard{}, Loop::kSharedBytes);
}

}  // namespace facenet::cuda
