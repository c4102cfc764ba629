// Main loop (b) of the pair stream: mma.sync on tiles that cp.async brings, from sm_80.
//
// The matrix units compute products x.y, accumulated in float32. The distance is
// |x|^2 + |y|^2 - 2 x.y, clamped at 0, or 1 - cos. This loop serves the *search*: selection.cu
// measures what it finds again, by direct differences. The host uses this loop only where rows are
// 16-byte aligned. Where a common offset of the rows would cost products their digits, a guard
// (prepare.cu) chooses FmaLoop.
//
//   In               instruction                   products per step
//   bfloat16, half   mma.m16n8k16                  1
//   float            mma.m16n8k8 on TF32, 3 times  big.big + big.small + small.big (3xTF32): the
//                                                  22 bits that are kept make it float32's equal
//
// 128 threads own a tile of 128 anchors x 64 candidates: warp (u, v) of 2 x 2 owns 64 x 32 of it,
// as 4 x 4 fragments, of which thread (g, t) = (lane / 4, lane % 4) holds rows g, g+8 and columns
// 2t, 2t+1. Two such blocks, or three of elements of 16 bits, share a multiprocessor where their
// memory fits, so that one multiplies while another is in its epilogue.
//
// Shared memory: panels (panels.h) of a chunk of each row of a tile, 16 KiB of anchors and 8 KiB
// of candidates. Candidates stream through a ring of three chunks. The anchors' chunks stay in
// shared memory if that costs no block (`resident`). Otherwise they stream beside the candidates'.
// While a tile is multiplied, and while the epilogue looks at it, copies for the next steps are
// under way.
#pragma once

#include <algorithm>

#include "cuda/pair_tile.cuh"
#include "cuda/panels.h"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"
#include "semantics/key.h"

namespace facenet::cuda {

struct MmaArguments {
  Pairs<float> pairs;
  PackedRows anchors, candidates;
  int32_t resident;  // the number of chunks of a row where the anchors stay, else 0
};

template <class In>
class MmaLoop {
 public:
  using Value = float;
  using Arguments = MmaArguments;
  static constexpr int kTileRows = 128;
  static constexpr int kTileColumns = 64;
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerProcessor = sizeof(In) == 2 ? 3 : 2;
  static constexpr bool kMayBeNan = false;  // the guard keeps such rows away
  static constexpr int kStages = 3;
  static constexpr int kAnchorBytes = kTileRows * kChunkBytes;
  static constexpr int kCandidateBytes = kTileColumns * kChunkBytes;

  __host__ __device__ static constexpr int chunks(int32_t dim) {
    return chunks_of(dim, sizeof(In));
  }
  static constexpr int shared_bytes(int resident) {
    return kStages * kCandidateBytes + (resident > 0 ? resident : kStages) * kAnchorBytes;
  }
  // The chunks of anchors that stay in shared memory: all of them, or none where more blocks fit
  // into a multiprocessor without. `block_bytes`: the most that a block may have. Each takes 1 KiB
  // more.
  static constexpr int resident(int32_t dim, int epilogue_bytes, int block_bytes) {
    const int all = chunks(dim), reserved = 1024;
    const auto fit = [=](int resident) {
      const int bytes = shared_bytes(resident) + epilogue_bytes + reserved;
      return std::min(kBlocksPerProcessor, (block_bytes + reserved) / bytes);
    };
    return fit(all) >= std::max(1, fit(0)) ? all : 0;
  }

  __device__ static int tile_row(int r) {
    return 64 * (int(threadIdx.x) / 64) + 16 * (r / 2) + 8 * (r % 2) + lane() / 4;
  }
  __device__ static int tile_column(int c) {
    return 32 * (int(threadIdx.x) / 32 % 2) + 8 * (c / 2) + 2 * (lane() % 4) + c % 2;
  }

  __device__ MmaLoop(const Arguments& arguments, unsigned char* shared)
      : arguments_(arguments),
        b_(shared),
        a_(shared + kStages * kCandidateBytes),
        chunks_(chunks(arguments.pairs.anchors.dim)) {}

  // `begin` is the first of a tile.
  template <class Consume>
  __device__ void run(int32_t first_anchor, int32_t begin, int32_t end, const Consume& consume) {
    const int32_t tiles = (end - begin + kTileColumns - 1) / kTileColumns;
    next_ = {panels(arguments_.candidates, begin), tiles * chunks_, 0, 0, true};
    const unsigned char* const anchors = panels(arguments_.anchors, first_anchor);
    for (int32_t s = 0; s < kStages - 1; ++s) fetch(anchors);
    int32_t stage = 0;
    for (int32_t tile_number = 0; tile_number < tiles; ++tile_number) {
      ThreadTile<float> tile;
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c) tile.d[r][c] = 0;
      int32_t chunk = 0;
      do {
        cp_async_wait<kStages - 2>();
        __syncthreads();  // this step's chunks are there for all, the last step's are read no more
        fetch(anchors);
        multiply(a_panel(stage, chunk), b_ + stage * kCandidateBytes, tile);
        stage = stage + 1 < kStages ? stage + 1 : 0;
      } while (++chunk < chunks_);
      finish(first_anchor, begin + tile_number * kTileColumns, tile);
      consume(begin + tile_number * kTileColumns, tile);
    }
  }

 private:
  __device__ static int lane() { return int(threadIdx.x) % 32; }

  // What is copied next.
  struct Next {
    const unsigned char* from;  // this thread's first unit of the candidates' panel
    int32_t steps_left;
    int32_t stage;
    int32_t chunk;
    bool anchors;  // too
  };

  __device__ unsigned char* a_panel(int32_t stage, int32_t chunk) const {
    return a_ + (arguments_.resident > 0 ? chunk : stage) * kAnchorBytes;
  }

  // This thread's first unit of the panels of a tile.
  __device__ const unsigned char* panels(const PackedRows& rows, int32_t first) const {
    return rows.panels + int64_t(first / kPanelRows) * chunks_ * kPanelBytes + 16 * threadIdx.x;
  }

  // Starts the copies of a step and closes their group; beyond the last step the group is empty.
  __device__ void fetch(const unsigned char* anchors) {
    if (next_.steps_left > 0) {
      --next_.steps_left;
      copy(next_.from, b_ + next_.stage * kCandidateBytes);
      next_.from += kPanelBytes;
      if (next_.anchors) {
        const unsigned char* const from = anchors + next_.chunk * kPanelBytes;
        unsigned char* const to = a_panel(next_.stage, next_.chunk);
        copy(from, to);
        copy(from + chunks_ * kPanelBytes, to + kPanelBytes);
      }
      next_.stage = next_.stage + 1 < kStages ? next_.stage + 1 : 0;
      if (++next_.chunk == chunks_) next_.chunk = 0, next_.anchors = arguments_.resident == 0;
    }
    cp_async_commit();
  }

  __device__ static void copy(const unsigned char* from, unsigned char* panel) {
#pragma unroll
    for (int i = 0; i < kPanelBytes / (16 * kThreads); ++i) {
      const int at = i * 16 * kThreads;
      cp_async_16(panel + 16 * threadIdx.x + at, from + at, 16);
    }
  }

  // The four 8 x 16-byte matrices of 16 rows and two units, as ldmatrix takes their addresses.
  __device__ static const unsigned char* matrix_row(const unsigned char* panel, int row, int unit) {
    return panel + place_in_panel(row, unit);
  }

  __device__ void multiply(const unsigned char* a_panel, const unsigned char* b_panel,
                           ThreadTile<float>& tile) const {
    const int first_row = 64 * (int(threadIdx.x) / 64);
    const int first_column = 32 * (int(threadIdx.x) / 32 % 2);
    const int l = lane();
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // steps of 32 bytes
      uint32_t b[4][2];
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        uint32_t m[4];
        ldmatrix_x4(m, matrix_row(b_panel, first_column + 16 * pair + l / 16 * 8 + l % 8,
                                  2 * k + l / 8 % 2));
        b[2 * pair][0] = m[0];
        b[2 * pair][1] = m[1];
        b[2 * pair + 1][0] = m[2];
        b[2 * pair + 1][1] = m[3];
      }
      uint32_t small_b[4][2];
      if constexpr (sizeof(In) == 4) {
#pragma unroll
        for (int j = 0; j < 4; ++j) split(b[j], small_b[j]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t a[4], small_a[4];
        ldmatrix_x4(a, matrix_row(a_panel, first_row + 16 * i + l % 16, 2 * k + l / 16));
        if constexpr (sizeof(In) == 4) split(a, small_a);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (sizeof(In) == 4) {
            accumulate(small_a, b[j], i, j, tile);
            accumulate(a, small_b[j], i, j, tile);
          }
          accumulate(a, b[j], i, j, tile);
        }
      }
    }
  }

  // Float32 into a TF32 and what that leaves of it. Both are cut off, which SearchRounding counts
  // on: the first here, and what is left by the matrix units, which do not read the lower 13 bits.
  template <int n>
  __device__ static void split(uint32_t (&x)[n], uint32_t (&small)[n]) {
#pragma unroll
    for (int v = 0; v < n; ++v) {
      const uint32_t big = x[v] & ~0x1fffu;
      small[v] = bits_of(value_of(x[v]) - value_of(big));
      x[v] = big;
    }
  }

  __device__ static void accumulate(const uint32_t (&a)[4], const uint32_t (&b)[2], int i, int j,
                                    ThreadTile<float>& tile) {
    float c[4] = {tile.d[2 * i][2 * j], tile.d[2 * i][2 * j + 1], tile.d[2 * i + 1][2 * j],
                  tile.d[2 * i + 1][2 * j + 1]};
    if constexpr (sizeof(In) == 2) {
      mma_m16n8k16(c, a, b, static_cast<const In*>(nullptr));
    } else {
      mma_m16n8k8_tf32(c, a, b);
    }
    tile.d[2 * i][2 * j] = c[0];
    tile.d[2 * i][2 * j + 1] = c[1];
    tile.d[2 * i + 1][2 * j] = c[2];
    tile.d[2 * i + 1][2 * j + 1] = c[3];
  }

  // Turns products into distances. The values of rows and columns beyond the last are undefined.
  __device__ void finish(int32_t first_anchor, int32_t first_candidate,
                         ThreadTile<float>& tile) const {
    const Distance kind = arguments_.pairs.anchors.distance;
    const float* const x = arguments_.anchors.terms + first_anchor + tile_row(0);
    float y[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      y[c] = arguments_.candidates.terms[first_candidate + tile_column(c)];
    }
    if (kind == Distance::kCosine) {
#pragma unroll
      for (int r = 0; r < 8; ++r) {
        const float term = -x[tile_row(r) - tile_row(0)];
#pragma unroll
        for (int c = 0; c < 8; ++c) {
          tile.d[r][c] = fmaxf(fmaf(term * tile.d[r][c], y[c], 1.0f), 0.0f);
        }
      }
      return;
    }
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const float term = x[tile_row(r) - tile_row(0)];
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        tile.d[r][c] = fmaxf(fmaf(-2.0f, tile.d[r][c], term + y[c]), 0.0f);
      }
    }
    if (kind == Distance::kEuclidean) {
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c) tile.d[r][c] = sqrtf(tile.d[r][c]);
    }
  }

  const Arguments& arguments_;
  unsigned char* b_;
  unsigned char* a_;
  int32_t chunks_;
  Next next_;
};

}  // namespace facenet::cuda
