// triplet_margin_loss, as its operator calls it.
#pragma once

#include "cuda/compensated_sum.h"
#include "cuda/loss_sums.h"
#include "cuda/push.h"
#include "cuda/workspace.h"
#include "semantics/band.h"

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
  int32_t row_count;
  Distance distance;
};

// [slots] unless said.
template <class T>
struct BandArrays {
  int64_t anchors = 0, slots = 0, stripes = 0;
  bool smooth = false;
  T* d_ap = nullptr;               // NaN: not a pair
  T* threshold = nullptr;          // ascending within an anchor
  int32_t* positive_of = nullptr;  // of each threshold: the positive whose distance it is
  T* positive = nullptr;           // the weight of the edge to the positive
  int32_t* count = nullptr;        // [M] thresholds
  BandTotals<T> totals{};
  LossSums<T, int64_t> sums{};  // [M]
  T* scale = nullptr;           // [1]

  void place(Workspace& w) {
    d_ap = w.take<T>(slots);
    threshold = w.take<T>(slots);
    positive_of = w.take<int32_t>(slots);
    positive = w.take<T>(slots);
    count = w.take<int32_t>(anchors);
    totals = {w.take<CompensatedSum<T>>(stripes * anchors), w.take<int64_t>(stripes * anchors),
              w.take<int64_t>(stripes * anchors),           w.take<int32_t>(smooth ? 0 : slots),
              w.take<T>(smooth ? stripes * slots : 0),      slots};
    sums = {w.take<T>(anchors), w.take<int64_t>(anchors), w.take<int64_t>(anchors)};
    scale = w.take<T>(1);
  }
};

// Sorts the positive distances of each anchor, and clears the totals.
template <class T>
void begin_bands(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                 const BandArrays<T>& to);

// Adds to the totals of the rows that are anchors, and to the gradient of all rows.
template <class T>
void push_bands(const PushPass<T>& pass, const BandArguments<T>& band, T* gradient);

// The totals become the anchors' losses and the weights of their positives.
template <class T>
void finish_bands(const Device& device, const Pairs<T>& pairs, const Slots& slots, double margin,
                  const BandArrays<T>& to);

}  // namespace facenet::cuda
