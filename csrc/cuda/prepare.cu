#include <algorithm>
#include <limits>

#include "cuda/interleaved.h"
#include "cuda/labels.cuh"
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

// Beyond the largest, squares may overflow in a product; below the smallest they may vanish in it.
// In a difference they do neither.
constexpr float kLargest = 1e37f, kSmallest = 1e-30f;

// A warp per row: 16 bytes per lane. Rows are whole units, aligned (wants_products).
__device__ void pack(const Rows<float>& rows, int32_t position, int32_t row,
                     unsigned char* panels) {
  const int element_bytes = rows.element == Element::kFloat ? 4 : 2;
  const int32_t chunks = chunks_of(rows.dim, element_bytes), units = rows.dim * element_bytes / 16;
  const bool there = position < rows.count;
  const uint4* const from =
      static_cast<const uint4*>(rows.data) + (there ? int64_t(row) * units : 0);
  unsigned char* const to = panels + int64_t(position / kPanelRows) * chunks * kPanelBytes;
  for (int32_t unit = lane(); unit < chunks * (kChunkBytes / 16); unit += 32) {
    const uint4 zero = {0, 0, 0, 0};
    const int place = place_in_panel(position % kPanelRows, unit % (kChunkBytes / 16));
    *reinterpret_cast<uint4*>(to + unit / (kChunkBytes / 16) * kPanelBytes + place) =
        there && unit < units ? from[unit] : zero;
  }
}

// Positions that look_at_row is called for: those of packed rows beyond the last are filled up.
template <class T>
__host__ __device__ int64_t positions_of(const Rows<T>& rows, const PackedRows& packed) {
  return packed.panels == nullptr ? rows.count : padded_rows(rows.count);
}

// By a warp: a lane for each of a row's units.
__device__ void interleave(const Rows<float>& rows, int32_t position, int32_t row, float factor,
                           float* to) {
  const int32_t units = units_of(rows.dim);
  for (int32_t unit = lane(); unit < units; unit += 32) {
    float x[4] = {};
    if (position < rows.count) load_columns(rows, row, 4 * unit, factor, x);
    reinterpret_cast<float4*>(to)[interleaved_unit(position, unit, units)] =
        float4{x[0], x[1], x[2], x[3]};
  }
}

// By a warp: the row at a sorted position, which rows.order need not have yet. Returns the factor
// of the row. Whether it is finite goes to `unfit`, to what is there, or without it to the flags.
template <class T>
__device__ T look_at_row(const Rows<T>& rows, int32_t position, int32_t row, T* inverse_norms,
                         const PackedRows& packed, RowFlags* flags, int32_t* unfit = nullptr) {
  if constexpr (sizeof(T) == 4) {
    if (packed.panels != nullptr) {
      pack(rows, position, row, packed.panels);
      if (position >= rows.count && lane() == 0) packed.terms[position] = 0;
    }
  }
  if (position >= rows.count) return T(0);
  T largest = 0, squares = 0;
  bool finite = true;
  constexpr int kEach = 4;  // elements that a lane waits for together
#pragma unroll 1
  for (int32_t first = lane(); first < rows.dim; first += 32 * kEach) {
    T x[kEach];
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      x[v] = first + 32 * v < rows.dim ? rows.raw(row, first + 32 * v) : T(0);
    }
#pragma unroll
    for (int v = 0; v < kEach; ++v) {
      finite = finite & (x[v] - x[v] == T(0));
      largest = max(largest, T(fabs(x[v])));
      squares = fma(x[v], x[v], squares);
    }
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
  const T factor = rows.distance == Distance::kCosine ? term : T(1);
  if (lane() != 0) return factor;
  if (!finite && unfit != nullptr) *unfit = 1;
  if (!finite && unfit == nullptr) atomicExch(&flags->not_finite, 1);
  if (packed.terms == nullptr) return factor;  // what follows is for products
  packed.terms[position] = float(term);
  // Of the cosine the terms are inverse norms, but the products are of the rows as they are.
  const bool vanishes = rows.distance == Distance::kCosine && largest > T(0) && size < T(kSmallest);
  if (!(term < T(kLargest)) || !(size < T(kLargest)) || vanishes) atomicExch(&flags->unfit, 1);
  const uint32_t bits = bits_of(float(size));
  if (finite && bits > load_relaxed(&flags->largest_square)) {
    atomicMax(&flags->largest_square, bits);
  }
  return factor;
}

// A warp per sorted position.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    look_at_rows(const Rows<T> rows, T* inverse_norms, const PackedRows packed, RowFlags* flags) {
  const int64_t position = warp_number();
  if (position >= positions_of(rows, packed)) return;
  const int32_t row = position < rows.count ? rows.row(int32_t(position)) : 0;
  look_at_row(rows, int32_t(position), row, inverse_norms, packed, flags);
}

// Of a warp's lanes together: how many labels are below one, and how many equal it before row
// `first` and from there on.
struct LabelCount {
  int32_t below = 0, equal_before = 0, equal_behind = 0;

  __device__ LabelCount(const int64_t* labels, int32_t count, int64_t label, int32_t first) {
    // Of the rows before `first` two comparisons tell both, and so of those from there on.
    const auto look = [&](int32_t begin, int32_t end, int32_t& equal) {
      int32_t smaller = 0, at_most = 0;
#pragma unroll 4
      for (int32_t j = begin + lane(); j < end; j += 32) {
        const int64_t other = labels[j];
        smaller += other < label;
        at_most += other <= label;
      }
      below += smaller;
      equal = warp_sum(at_most - smaller);
    };
    look(0, first, equal_before);
    look(first, count, equal_behind);
    below = warp_sum(below);
  }
};

// Positions that count_row is called for.
template <class T>
__host__ __device__ int64_t counted_positions(const CountedSide<T>& side) {
  return side.interleaved == nullptr ? positions_of(side.rows, side.packed)
                                     : interleaved_rows(side.rows.count);
}

// By a warp: counts the labels before its row, which gives the row's place among its own side and
// its class among the other side, and looks at it.
template <class T>
__device__ void count_row(const CountedSide<T>& side, const CountedSide<T>& other, bool self,
                          bool slots, int64_t bound, const SlotTable& table, RowFlags* flags) {
  const int32_t row = int32_t(warp_number());
  if (row >= counted_positions(side)) return;
  int32_t position = row;
  if (row < side.rows.count) {
    const int64_t label = side.labels[row];
    const LabelCount own(side.labels, side.rows.count, label, row);
    position = own.below + own.equal_before;
    int32_t begin = own.below, end = position + own.equal_behind;
    if (!self) {
      const LabelCount among(other.labels, other.rows.count, label, 0);
      begin = among.below;
      end = begin + among.equal_behind;
    }
    if (lane() == 0) {
      side.order[position] = row;
      side.classes.begin[position] = begin;
      side.classes.end[position] = end;
      const bool over = slots && write_slots(table, self, bound, other.rows.count, position,
                                             end - begin, side.unfit == nullptr);
      if (side.unfit != nullptr) side.unfit[position] = over;
    }
  }
  int32_t* const unfit = side.unfit == nullptr ? nullptr : side.unfit + position;
  const T factor =
      look_at_row(side.rows, position, row, side.inverse_norms, side.packed, flags, unfit);
  if constexpr (sizeof(T) == 4) {
    if (side.interleaved != nullptr) interleave(side.rows, position, row, factor, side.interleaved);
  }
}

// A warp per row: blocks (x, 0) have the anchors, in bank mode blocks (x, 1) the candidates. With
// `unfit` the flags and sizes are cleared.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    count_rows(const CountedSide<T> anchors, const CountedSide<T> candidates, const bool self,
               const bool slots, const int64_t bound, const SlotTable table, RowFlags* flags) {
  if (anchors.unfit != nullptr && thread_number() == 0 && blockIdx.y == 0) {
    *flags = RowFlags{};
    *table.sizes = ClassSizes{};
  }
  if (blockIdx.y == 0) {
    count_row(anchors, candidates, self, slots, bound, table, flags);
  } else {
    count_row(candidates, anchors, self, false, bound, table, flags);
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
  return aligned(anchors) && aligned(candidates) && !is_small(device, anchors, candidates);
}

template <class T>
void prepare_rows(const Device& device, const Rows<T>& rows, T* inverse_norms,
                  const PackedRows& packed, RowFlags* flags) {
  launch("look_at_rows", sizes_of(rows), device.stream(),
         {blocks_of_warps(positions_of(rows, packed)), kBlock}, look_at_rows<T>, rows,
         inverse_norms, packed, flags);
}

template <class T>
void prepare_by_counting(const Device& device, const CountedSide<T>& anchors,
                         const CountedSide<T>* candidates, bool slots, int64_t bound,
                         const SlotTable& table, RowFlags* flags) {
  const bool self = candidates == nullptr;
  const CountedSide<T>& others = self ? anchors : *candidates;
  const int64_t warps = std::max(counted_positions(anchors), counted_positions(others));
  launch("count_rows", {{"M", anchors.rows.count}, {"N", others.rows.count}}, device.stream(),
         {dim3(blocks_of_warps(warps), self ? 1 : 2), kBlock}, count_rows<T>, anchors, others, self,
         slots, bound, table, flags);
}

int64_t centre_blocks(int64_t dim) { return (dim + kColumnsPerBlock - 1) / kColumnsPerBlock; }

void look_for_offset(const Device& device, const Rows<float>& rows, float* partial,
                     RowFlags* flags) {
  if (rows.count == 0) return;
  launch("measure_offset", sizes_of(rows), device.stream(),
         {unsigned(centre_blocks(rows.dim)), kBlock}, measure_offset, rows, partial, flags);
}

template void prepare_by_counting(const Device&, const CountedSide<float>&,
                                  const CountedSide<float>*, bool, int64_t, const SlotTable&,
                                  RowFlags*);
template void prepare_by_counting(const Device&, const CountedSide<double>&,
                                  const CountedSide<double>*, bool, int64_t, const SlotTable&,
                                  RowFlags*);
template void prepare_rows(const Device&, const Rows<float>&, float*, const PackedRows&, RowFlags*);
template void prepare_rows(const Device&, const Rows<double>&, double*, const PackedRows&,
                           RowFlags*);

}  // namespace facenet::cuda
