// Rows as select_small reads them: float32, sorted by label, times their factors, 4 columns at a
// time.
//
// A *unit* is 4 columns of a row. A group has 32 rows: first their first units, then their second
// ones, so that the lanes of a warp, a row each, read them side by side. Columns are filled up
// to a unit, and rows to a group, with zeros.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace facenet::cuda {

constexpr int kGroupRows = 32;

__host__ __device__ constexpr int64_t interleaved_rows(int64_t rows) {
  return (rows + kGroupRows - 1) / kGroupRows * kGroupRows;
}
__host__ __device__ constexpr int32_t units_of(int32_t dim) { return dim / 4 + (dim % 4 > 0); }

// Where a row's unit lies, in units.
__host__ __device__ constexpr int64_t interleaved_unit(int32_t position, int32_t unit,
                                                       int32_t units) {
  return (int64_t(position / kGroupRows) * units + unit) * kGroupRows + position % kGroupRows;
}

}  // namespace facenet::cuda
