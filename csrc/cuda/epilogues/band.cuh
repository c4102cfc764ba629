// band: the hinges of all triplets of a kind, without a list of them; see semantics/band.h.
//
// The tile's distances go to shared memory, where thread t owns row t. For one column after the
// other it finds the band of its anchor's positives by binary search, and overwrites the distance
// with the negative's weight. A column can be an anchor too, whose negatives the rows are: in self
// mode every column is, and in the pass for the candidates' gradient only columns are. A row gets
// the sum of both weights. The sums over the tile go to the block's own stripe of the results, so
// the order of additions does not depend on the scheduler. Only counts use atomics.
//
// With weights w the gradient of row r gets minus the sum over columns c of w (x_r - x_c), by
// differences: thread (u, v) of 8 x 8 has 8 rows and, of 32 coordinates at a time, 4.
//
// Shared memory: [64][68] of T, 17 KiB for float, 34 KiB for double.
#pragma once

#include "cuda/compensated_sum.cuh"
#include "cuda/pair_stream.cuh"
#include "cuda/slots.cuh"
#include "semantics/band.h"
#include "semantics/hinge.h"

namespace facenet::cuda {

// The anchors of one side and their positives.
template <class T>
struct BandAnchors {
  bool there;                  // or this side has none that take part
  const int64_t* offset;       // [M]
  const int32_t* count;        // [M] positives; 0: the anchor takes no part
  const T* threshold;          // [slots] their distances, ascending
  const int32_t* class_begin;  // [M] the anchor's class on the other side, sorted positions
  const int32_t* class_end;
};

// What the triplets of an anchor add up to, in stripes. A hinge's share of its positives is not in
// here: `entering` says how many triplets they are in.
template <class T>
struct BandTotals {
  CompensatedSum<T>*
      loss;           // [stripes, M] hinge: minus the sum over triplets of d(a, n); smooth: all
  int64_t* active;    // [stripes, M] triplets with a positive hinge
  int64_t* counted;   // [stripes, M] triplets of the kind, where asked for
  int32_t* entering;  // [slots] hinge: triplets of positive k less those of positive k - 1
  T* weight;          // [stripes, slots] smooth: the sum of the slopes of positive k
  int64_t slots;
};

template <class T>
struct BandArguments {
  TripletKind kind;
  T margin;
  bool smooth;
  bool counts;
  BandAnchors<T> rows, columns;
  BandTotals<T> totals;  // of the rows' anchors
  T* gradient;           // [stripes, rows, dim] by sorted position; null: not wanted
};

template <class T>
class BandEpilogue {
 public:
  using Arguments = BandArguments<T>;
  static constexpr int kTile = 64;
  static constexpr int kPitch = kTile + 4;  // so that columns do not begin in the same bank

  __host__ __device__ static constexpr int shared_bytes(int) {
    return kTile * kPitch * int(sizeof(T));
  }
  __device__ BandEpilogue(const Arguments& to, const Pairs<T>& pairs, unsigned char* shared)
      : to_(to), pairs_(pairs), w_(reinterpret_cast<T*>(shared)) {}

  template <class Loop>
  __device__ bool begin(int32_t first_anchor) {
    static_assert(Loop::kTileRows == kTile && Loop::kTileColumns == kTile &&
                  Loop::kThreads == kTile);
    first_row_ = first_anchor;
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
    const bool any = weigh(first_column);
    if (__syncthreads_or(any) != 0 && to_.gradient != nullptr) push(first_column);
    __syncthreads();  // the weights are read no more
  }

 private:
  __device__ T& at(int column, int row) { return w_[column * kPitch + row]; }

  // Whether the anchor has a negative at a position of the other side.
  __device__ static bool is_negative(const BandAnchors<T>& of, int32_t anchor, int32_t position) {
    return of.count[anchor] > 0 &&
           (position < of.class_begin[anchor] || position >= of.class_end[anchor]);
  }

  // Thread t turns the distances of row t into weights. Returns whether any is not 0.
  __device__ bool weigh(int32_t first_column) {
    const int t = int(threadIdx.x);
    const int32_t i = first_row_ + t;
    const int32_t columns = min(kTile, pairs_.candidates.count - first_column);
    const Distance kind = pairs_.anchors.distance;
    const bool is_row = i < pairs_.anchors.count;
    const bool is_anchor = is_row && to_.rows.there && to_.rows.count[i] > 0;
    if (is_anchor && to_.smooth) sum_positives(i, first_column, columns);
    CompensatedSum<T> loss;
    int64_t active = 0, counted = 0;
    bool any = false;
#pragma unroll 1
    for (int32_t c = 0; c < kTile; ++c) {
      const int32_t j = first_column + c;
      T weight = 0;
      if (is_row && c < columns) {
        const T d = at(c, t);
        if (is_anchor && is_negative(to_.rows, i, j)) {
          if (to_.smooth) {
            weight += sum_of_slopes(to_.rows, i, d);
          } else {
            const Band band = band_of(to_.rows, i, d);
            const int64_t triplets = band.size();
            if (triplets > 0) {
              mark(i, band);
              weight += T(triplets);
              loss.add_product(-T(triplets), d);
            }
            active += triplets;
            if (to_.counts) counted += count_kind(i, d);
          }
        }
        if (to_.columns.there && is_negative(to_.columns, j, i)) {
          weight +=
              to_.smooth ? sum_of_slopes(to_.columns, j, d) : T(band_of(to_.columns, j, d).size());
        }
        weight *= distance_slope(kind, d);
      }
      at(c, t) = weight;
      any = any || weight != T(0);
    }
    if (is_anchor && !to_.smooth) add(i, loss, active, counted);
    return any;
  }

  __device__ void add(int32_t i, const CompensatedSum<T>& loss, int64_t active, int64_t counted) {
    const int64_t to = int64_t(blockIdx.y) * pairs_.anchors.count + i;
    to_.totals.loss[to].add(loss);
    to_.totals.active[to] += active;
    to_.totals.counted[to] += counted;
  }

  __device__ Band band_of(const BandAnchors<T>& of, int32_t anchor, T d) const {
    const T* t = of.threshold + of.offset[anchor];
    const int64_t count = of.count[anchor];
    const int64_t above = splits_at_zero(to_.kind) ? count_gaps<false>(t, count, d, T(0)) : 0;
    return active_band(to_.kind, count_gaps<true>(t, count, d, to_.margin), above, count);
  }

  // Either end of a negative's band among its anchor's positives.
  __device__ void mark(int32_t i, Band band) {
    int32_t* const entering = to_.totals.entering + to_.rows.offset[i];
    atomicAdd(entering + band.begin, 1);
    if (band.end < to_.rows.count[i]) atomicSub(entering + band.end, 1);
  }

  // How many triplets of the kind a negative at distance d is in.
  __device__ int64_t count_kind(int32_t i, T d) const {
    const T* t = to_.rows.threshold + to_.rows.offset[i];
    const int64_t count = to_.rows.count[i];
    return counted_band(to_.kind, count_gaps<false>(t, count, d, to_.margin),
                        count_gaps<false>(t, count, d, T(0)), count)
        .size();
  }

  // Softplus: the weight of a negative at distance d.
  __device__ T sum_of_slopes(const BandAnchors<T>& of, int32_t anchor, T d) const {
    T sum = 0;
    const T* t = of.threshold + of.offset[anchor];
#pragma unroll 1
    for (int32_t k = 0; k < of.count[anchor]; ++k) {
      const T gap = d - t[k];
      if (is_of_kind(to_.kind, gap, to_.margin)) sum += hinge_slope(to_.margin - gap, true);
    }
    return sum;
  }

  // Softplus: the losses of row t of the tile, and the slopes by positive. Distances stay.
  __device__ void sum_positives(int32_t i, int32_t first_column, int32_t columns) {
    const int64_t offset = to_.rows.offset[i];
    T* weight = to_.totals.weight + int64_t(blockIdx.y) * to_.totals.slots + offset;
    CompensatedSum<T> loss;
    int64_t counted = 0;
#pragma unroll 1
    for (int32_t k = 0; k < to_.rows.count[i]; ++k) {
      const T t = to_.rows.threshold[offset + k];
      T losses = 0, slopes = 0;
#pragma unroll 1
      for (int32_t c = 0; c < columns; ++c) {
        const T gap = at(c, int(threadIdx.x)) - t;
        if (!is_negative(to_.rows, i, first_column + c)) continue;
        if (!is_of_kind(to_.kind, gap, to_.margin)) continue;
        losses += hinge(to_.margin - gap, true);
        slopes += hinge_slope(to_.margin - gap, true);
        counted += 1;
      }
      weight[k] += slopes;
      loss.add(losses);
    }
    add(i, loss, counted, counted);
  }

  __device__ void push(int32_t first_column) {
    constexpr int kEach = 4, kChunk = 8 * kEach;
    const int u = int(threadIdx.x) / 8, v = int(threadIdx.x) % 8;
    const Rows<T>&x = pairs_.anchors, &y = pairs_.candidates;
    const int32_t columns = min(kTile, y.count - first_column);
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
  int32_t first_row_ = 0;
};

}  // namespace facenet::cuda
