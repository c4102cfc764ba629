#include <limits>

#include "cuda/launch.h"
#include "cuda/panels.h"
#include "cuda/prepare.h"
#include "cuda/ptx.cuh"
#include "cuda/rows.cuh"
#include "cuda/warp.cuh"
#include "semantics/key.h"

namespace facenet::cuda {
namespace {

template <class T>
Sizes sizes_of(const Rows<T>& rows) {
  return {{"rows", rows.count}, {"D", rows.dim}};
}

// With fewer multiply-adds the further kernels of a search by products cost more than they save.
#ifndef FACENET_LEAST_WORK_FOR_PRODUCTS
#define FACENET_LEAST_WORK_FOR_PRODUCTS 4e6
#endif
constexpr double kLeastWorkForProducts = FACENET_LEAST_WORK_FOR_PRODUCTS;

// Beyond the largest, squares may overflow in a product; below the smallest they may vanish in it.
// In a difference they do neither.
constexpr float kLargest = 1e37f, kSmallest = 1e-30f;

// A warp per row: 16 bytes per lane. Rows are whole units, aligned (wants_products).
__device__ void pack(const Rows<float>& rows, int32_t position, unsigned char* panels) {
  const int element_bytes = rows.element == Element::kFloat ? 4 : 2;
  const int32_t chunks = chunks_of(rows.dim, element_bytes), units = rows.dim * element_bytes / 16;
  const bool there = position < rows.count;
  const uint4* const from =
      static_cast<const uint4*>(rows.data) + (there ? int64_t(rows.row(position)) * units : 0);
  unsigned char* const to = panels + int64_t(position / kPanelRows) * chunks * kPanelBytes;
  for (int32_t unit = lane(); unit < chunks * (kChunkBytes / 16); unit += 32) {
    const uint4 zero = {0, 0, 0, 0};
    const int place = place_in_panel(position % kPanelRows, unit % (kChunkBytes / 16));
    *reinterpret_cast<uint4*>(to + unit / (kChunkBytes / 16) * kPanelBytes + place) =
        there && unit < units ? from[unit] : zero;
  }
}

// A warp per sorted position, those of packed rows beyond the last included.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    look_at_rows(const Rows<T> rows, T* inverse_norms, const PackedRows packed, RowFlags* flags) {
  const int64_t position = warp_number();
  if constexpr (sizeof(T) == 4) {
    if (packed.panels != nullptr && position < padded_rows(rows.count)) {
      pack(rows, int32_t(position), packed.panels);
      if (position >= rows.count && lane() == 0) packed.terms[position] = 0;
    }
  }
  if (position >= rows.count) return;
  const int32_t row = rows.row(int32_t(position));
  T largest = 0, squares = 0;
  bool finite = true;
  for (int32_t k = lane(); k < rows.dim; k += 32) {
    const T x = rows.raw(row, k);
    finite = finite && x - x == T(0);
    largest = max(largest, T(fabs(x)));
    squares = fma(x, x, squares);
  }
  largest = warp_max(largest);
  finite = __all_sync(kAllLanes, finite) != 0;
  const T size = warp_sum(squares);
  T term = size;
  if (rows.distance == Distance::kCosine) {
    // Scaled by the largest entry, so that squares neither overflow nor vanish.
    T scaled = 0;
    for (int32_t k = lane(); k < rows.dim && largest > T(0); k += 32) {
      const T x = rows.raw(row, k) / largest;
      scaled = fma(x, x, scaled);
    }
    scaled = warp_sum(scaled);
    term = largest > T(0) ? T(1) / (sqrt(scaled) * largest) : T(0);
    if (!finite) term = T(NAN);
    if (lane() == 0) inverse_norms[row] = term;
  }
  if (lane() != 0) return;
  if (packed.terms != nullptr) packed.terms[position] = float(term);
  if (!finite) atomicExch(&flags->not_finite, 1);
  // Of the cosine the terms are inverse norms, but the products are of the rows as they are.
  const bool vanishes = rows.distance == Distance::kCosine && largest > T(0) && size < T(kSmallest);
  if (!(term < T(kLargest)) || !(size < T(kLargest)) || vanishes) atomicExch(&flags->unfit, 1);
  const uint32_t bits = bits_of(float(size));
  if (finite && bits > load_relaxed(&flags->largest_square)) {
    atomicMax(&flags->largest_square, bits);
  }
}

// Gram products carry an error of eps (|x|^2 + |y|^2), differences one of eps |x - y|^2. A common
// offset of the rows makes the first much larger than the second; up to this ratio of the mean's
// square to the variance it stays within a few roundings.
constexpr float kMostOffset = 3.0f;
constexpr int kSamples = 256;
constexpr int kColumnsPerBlock = 32;

// Block b takes columns 32 b .. 32 b + 31 of up to kSamples rows, evenly spaced: warp w every 8th
// of them, lane l column l. Shared memory: 2 x 8 x 32 floats. The last block to be done adds up
// all blocks' sums, in order.
__global__ void __launch_bounds__(kBlock, 2)
    measure_offset(const Rows<float> rows, float* partial, RowFlags* flags) {
  __shared__ float sums[2][kBlock / 32][kColumnsPerBlock];
  const int warp = int(threadIdx.x) / 32;
  const int32_t column = int32_t(blockIdx.x) * kColumnsPerBlock + lane();
  const bool there = column < rows.dim;
  const int32_t samples = min(rows.count, kSamples), stride = rows.count / samples;
  const auto value = [&](int32_t sample) {
    const int32_t row = rows.row(sample * stride);
    return rows.raw(row, column) * rows.factor(row);
  };
  const float origin = there ? value(0) : 0.0f;  // differences from it lose no digits
  float sum = 0, squares = 0;
#pragma unroll 8
  for (int32_t s = warp; s < samples; s += kBlock / 32) {
    if (!there) continue;
    const float x = value(s) - origin;
    sum += x;
    squares = fmaf(x, x, squares);
  }
  sums[0][warp][lane()] = sum;
  sums[1][warp][lane()] = squares;
  __syncthreads();
  if (warp != 0) return;
  sum = squares = 0;
  for (int w = 0; w < kBlock / 32; ++w) {
    sum += sums[0][w][lane()];
    squares += sums[1][w][lane()];
  }
  sum /= float(samples);
  const float variance = fmaxf(squares / float(samples) - sum * sum, 0.0f);
  const float mean = sum + origin;
  const float mean_squares = warp_sum(there ? mean * mean : 0.0f);
  const float variances = warp_sum(there ? variance : 0.0f);
  if (lane() != 0) return;
  partial[2 * blockIdx.x] = mean_squares;
  partial[2 * blockIdx.x + 1] = variances;
  __threadfence();
  if (atomicAdd(&flags->blocks_done, 1) + 1 < int(gridDim.x)) return;
  __threadfence();
  float offset = 0, spread = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) {
    offset += load_relaxed(partial + 2 * b);
    spread += load_relaxed(partial + 2 * b + 1);
  }
  // NaN fails the comparison, and so leads to differences.
  const bool products = offset <= kMostOffset * spread && load_relaxed(&flags->unfit) == 0;
  flags->needs_direct = products ? 0 : 1;
}

}  // namespace

template <>
bool wants_products(const Device&, const Rows<double>&, const Rows<double>&) {
  return false;
}

template <>
bool wants_products(const Device& device, const Rows<float>& anchors,
                    const Rows<float>& candidates) {
  if (device.capability() < 80 || anchors.dim == 0) return false;
  const int64_t bytes = anchors.element == Element::kFloat ? 4 : 2;
  const auto aligned = [&](const Rows<float>& rows) {
    return rows.aligned && rows.dim * bytes % 16 == 0;
  };
  // MmaLoop counts the bytes of a tile in 32 bits.
  const int64_t chunks = chunks_of(anchors.dim, int(bytes));
  if (4 * chunks * kPanelBytes > std::numeric_limits<int32_t>::max()) return false;
  const double work = double(anchors.count) * double(candidates.count) * double(anchors.dim);
  return aligned(anchors) && aligned(candidates) && work >= kLeastWorkForProducts;
}

template <class T>
void prepare_rows(const Device& device, const Rows<T>& rows, T* inverse_norms,
                  const PackedRows& packed, RowFlags* flags) {
  const int64_t count = packed.panels == nullptr ? rows.count : padded_rows(rows.count);
  launch("look_at_rows", sizes_of(rows), device.stream(), {blocks_of_warps(count), kBlock},
         look_at_rows<T>, rows, inverse_norms, packed, flags);
}

int64_t centre_blocks(int64_t dim) { return (dim + kColumnsPerBlock - 1) / kColumnsPerBlock; }

void look_for_offset(const Device& device, const Rows<float>& rows, float* partial,
                     RowFlags* flags) {
  if (rows.count == 0) return;
  launch("measure_offset", sizes_of(rows), device.stream(),
         {unsigned(centre_blocks(rows.dim)), kBlock}, measure_offset, rows, partial, flags);
}

template void prepare_rows(const Device&, const Rows<float>&, float*, const PackedRows&, RowFlags*);
template void prepare_rows(const Device&, const Rows<double>&, double*, const PackedRows&,
                           RowFlags*);

}  // namespace facenet::cuda
