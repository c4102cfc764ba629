// Rows as MmaLoop copies them to shared memory: packed once for each call, sorted by label.
//
// A *chunk* is 128 bytes (64 or 32 columns) of a row. A *panel* is a chunk of 64 rows, 8 KiB, as it
// lies in shared memory: its 16-byte units are exchanged within a row (unit ^ row % 8), so that
// neither copies nor ldmatrix have bank conflicts. The panels of 64 rows follow each other by
// chunk. Rows are filled up to a multiple of 128, and columns to that of a chunk, with zeros. So a
// tile is copied without a look at the order or at the bounds.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace facenet::cuda {

constexpr int kPanelRows = 64;
constexpr int kChunkBytes = 128;
constexpr int kPanelBytes = kPanelRows * kChunkBytes;

__host__ __device__ constexpr int64_t padded_rows(int64_t rows) { return (rows + 127) / 128 * 128; }
__host__ __device__ constexpr int32_t chunks_of(int32_t dim, int element_bytes) {
  const int32_t columns = kChunkBytes / element_bytes;
  return dim / columns + (dim % columns > 0 ? 1 : 0);
}

// What MmaLoop reads of rows in place of them: [padded_rows(count)] by sorted position.
struct PackedRows {
  float* terms;           // |x|^2, or 1 / |x| for the cosine
  unsigned char* panels;  // null: there are none
};

// Where a row's 16-byte unit lies in its panel.
__host__ __device__ constexpr int place_in_panel(int row, int unit) {
  return row * kChunkBytes + (unit ^ row % 8) * 16;
}

}  // namespace facenet::cuda
