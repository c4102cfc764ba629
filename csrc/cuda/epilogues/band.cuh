// band: the hinges of all triplets of a kind, without a list of them; see semantics/band.h.
//
// For one column after the other a thread finds the band of its anchor's positives by binary
// search, and overwrites the distance with the negative's weight (push.cuh). A column can be an
// anchor too, whose negatives the rows are: in self mode every column is, and in the pass for the
// candidates' gradient only columns are. A row gets the sum of both weights. Only counts use
// atomics.
#pragma once

#include "cuda/push.cuh"
#include "cuda/triplet_margin_loss.h"
#include "semantics/hinge.h"

namespace facenet::cuda {

template <class T>
class BandWeights {
 public:
  using Value = T;
  using Arguments = BandArguments<T>;
  __device__ BandWeights(const Arguments& to, int32_t row) : to_(to), row_(row) {}

  __device__ bool weigh(int32_t first_column, int32_t columns, RowOfTile<T> tile) {
    const int32_t i = row_;
    const bool is_row = i < to_.row_count;
    const bool is_anchor = is_row && to_.rows.there && to_.rows.count[i] > 0;
    if (is_anchor && to_.smooth) sum_positives(i, first_column, columns, tile);
    CompensatedSum<T> loss;
    int64_t active = 0, counted = 0;
    bool any = false;
#pragma unroll 1
    for (int32_t c = 0; c < columns; ++c) {
      const int32_t j = first_column + c;
      T weight = 0;
      if (is_row) {
        const T d = tile[c];
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
        weight *= distance_slope(to_.distance, d);
      }
      tile[c] = weight;
      any = any || weight != T(0);
    }
    if (is_anchor && !to_.smooth) add(i, loss, active, counted);
    return any;
  }

 private:
  // Whether the anchor has a negative at a position of the other side.
  __device__ static bool is_negative(const BandAnchors<T>& of, int32_t anchor, int32_t position) {
    return of.count[anchor] > 0 &&
           (position < of.class_begin[anchor] || position >= of.class_end[anchor]);
  }

  __device__ void add(int32_t i, const CompensatedSum<T>& loss, int64_t active, int64_t counted) {
    const int64_t to = int64_t(blockIdx.y) * to_.row_count + i;
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

  // Softplus: the losses of the tile's row, and the slopes by positive. Distances stay.
  __device__ void sum_positives(int32_t i, int32_t first_column, int32_t columns,
                                RowOfTile<T> tile) {
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
        const T gap = tile[c] - t;
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

  const Arguments& to_;
  const int32_t row_;
};

}  // namespace facenet::cuda
