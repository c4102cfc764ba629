// Main loop (a) of the pair stream: float32 (or float64) fused multiply-adds, on every
// architecture.
//
// Distances are direct differences, sum((a - b)^2), in the order of the columns. Equal rows are at
// exactly 0, and nothing needs a second look. 64 threads own a tile of 64 x 64. Thread (u, v) of
// 8 x 8 owns rows 4u .. 4u+3 and 32+4u .. 32+4u+3, and the same columns in v. Blocks are small, so
// that several share a multiprocessor, and one computes while another loads.
//
// Shared memory: two panels [kDepth][64] of T, transposed so that a step over the depth reads
// four neighbours at a time: 8 KiB for float, 8 KiB for double (half the depth).
#pragma once

#include "cuda/pair_tile.cuh"
#include "cuda/rows.cuh"

namespace facenet::cuda {

template <class T>
class FmaLoop {
 public:
  using Value = T;
  using Arguments = Pairs<T>;
  static constexpr int kTileRows = 64;
  static constexpr int kTileColumns = 64;
  static constexpr int kThreads = 64;
  static constexpr int kBlocksPerProcessor = sizeof(T) == 4 ? 6 : 4;
  static constexpr bool kMayBeNan = true;
  static constexpr int kDepth = sizeof(T) == 4 ? 16 : 8;
  static constexpr int kSharedBytes = 2 * kDepth * kTileRows * int(sizeof(T));

  __device__ static int tile_row(int r) { return place(int(threadIdx.x) / 8, r); }
  __device__ static int tile_column(int c) { return place(int(threadIdx.x) % 8, c); }

  __device__ FmaLoop(const Arguments& pairs, unsigned char* shared)
      : pairs_(pairs), a_(reinterpret_cast<T*>(shared)), b_(a_ + kDepth * kTileRows) {}

  // consume(first candidate, tile) for every tile of candidates from `begin` to `end`.
  template <class Consume>
  __device__ void run(int32_t first_anchor, int32_t begin, int32_t end, const Consume& consume) {
    for (int32_t first = begin; first < end; first += kTileColumns) {
      ThreadTile<T> tile;
      squares(first_anchor, first, tile);
      finish(first_anchor, first, tile);
      consume(first, tile);
    }
  }

 private:
  __device__ static int place(int group, int i) { return 32 * (i / 4) + 4 * group + i % 4; }

  __device__ void squares(int32_t first_anchor, int32_t first_candidate, ThreadTile<T>& tile) {
#pragma unroll
    for (int r = 0; r < 8; ++r)
#pragma unroll
      for (int c = 0; c < 8; ++c) tile.d[r][c] = 0;
    const int32_t dim = pairs_.anchors.dim;
    for (int32_t k0 = 0; k0 < dim; k0 += kDepth) {
      __syncthreads();  // the panels are read no more
      fill(pairs_.anchors, first_anchor, k0, a_);
      fill(pairs_.candidates, first_candidate, k0, b_);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        T a[8], b[8];
        read(a_ + k * kTileRows, int(threadIdx.x) / 8, a);
        read(b_ + k * kTileColumns, int(threadIdx.x) % 8, b);
#pragma unroll
        for (int r = 0; r < 8; ++r) {
#pragma unroll
          for (int c = 0; c < 8; ++c) {
            const T difference = a[r] - b[c];
            tile.d[r][c] = fma(difference, difference, tile.d[r][c]);
          }
        }
      }
    }
  }

  // Thread t brings row t; rows and columns beyond the last are zeros.
  __device__ static void fill(const Rows<T>& rows, int32_t first, int32_t k0, T* panel) {
    const int32_t position = first + int(threadIdx.x);
    const bool there = position < rows.count;
    const int32_t row = there ? rows.row(position) : 0;
    const T factor = there ? rows.factor(row) : T(0);
#pragma unroll 1
    for (int k = 0; k < kDepth; k += 8) {
      T x[8] = {};
      if (there) load_columns(rows, row, k0 + k, factor, x);
#pragma unroll
      for (int v = 0; v < 8; ++v) panel[(k + v) * kTileRows + threadIdx.x] = x[v];
    }
  }

  __device__ static void read(const T* line, int group, T (&x)[8]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int v = 0; v < 4; ++v) x[4 * half + v] = line[32 * half + 4 * group + v];
    }
  }

  // From squares to distances, as finish_distance of rows.cuh.
  __device__ void finish(int32_t first_anchor, int32_t first_candidate, ThreadTile<T>& tile) {
    const Rows<T>& x = pairs_.anchors;
    const Rows<T>& y = pairs_.candidates;
    if (x.distance == Distance::kSqEuclidean) return;
    uint32_t zero_rows = 0, zero_columns = 0;  // rows of zeros, as bits
#pragma unroll
    for (int v = 0; v < 8; ++v) {
      const int32_t i = first_anchor + tile_row(v), j = first_candidate + tile_column(v);
      zero_rows |= uint32_t(i < x.count && x.is_zero(x.row(i))) << v;
      zero_columns |= uint32_t(j < y.count && y.is_zero(y.row(j))) << v;
    }
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const bool zero = ((zero_rows >> r | zero_columns >> c) & 1) != 0;
        tile.d[r][c] = distance_or_one(x.distance, tile.d[r][c], zero);
      }
    }
  }

  const Pairs<T>& pairs_;
  T* a_;
  T* b_;
};

}  // namespace facenet::cuda
