// The plain structures that the kernels take. Nothing here owns memory.
#pragma once

#include <atomic>
#include <cstdint>

#include "semantics/band.h"
#include "semantics/bins.h"
#include "semantics/distance.h"
#include "semantics/random.h"
#include "semantics/softmax.h"

namespace facenet::cpu {

// Rows of a panel. A panel is stored depth-major, [dim][kPanel], so that it serves both as the
// anchors of a tile (one scalar per row) and as its candidates (one vector per W rows).
inline constexpr int kPanel = 48;

inline int64_t panel_count(int64_t rows) { return (rows + kPanel - 1) / kPanel; }

// Rows sorted by label, in panels; the last one is padded with zeros.
template <class T>
struct Panels {
  const T* data;            // [panel_count(rows), dim, kPanel]
  const uint8_t* zero_row;  // [rows], 1 for a row of zeros under the cosine; null: there is none
  int64_t rows;
  int64_t dim;
  const T* panel(int64_t p) const { return data + p * dim * kPanel; }
};

// All pairs (anchor i, candidate j), both in label-sorted positions.
template <class T>
struct Pairs {
  Panels<T> anchors;     // M rows
  Panels<T> candidates;  // N rows
  bool self;             // candidates are the anchors: (i, i) is no positive
  bool symmetric;        // candidates begin with the anchors: d(i, j) = d(j, i) among those
  Distance distance;
  const int32_t* class_begin;      // [M] candidates of the anchor's class: [begin, end)
  const int32_t* class_end;        // [M]
  const int32_t* candidate_order;  // [N] index in the caller's order, which decides ties
  const int64_t* anchor_ids;       // [M] or null
  const int64_t* candidate_ids;    // [N] or null; equal ids: no positive

  // Whether j may not be a positive of i. Ids decide nothing about negatives.
  bool excluded(int64_t i, int64_t j) const {
    return self ? i == j : anchor_ids != nullptr && anchor_ids[i] == candidate_ids[j];
  }
};

// Which pairs an epilogue gets. kOnce: all, but in self mode only those (i, j) with i < j.
enum class Which { kAll, kPositives, kNegatives, kOnce };

// store: out[i, j] = distance, [M, N].
template <class T>
struct Store {
  T* out;
};

// positives: the distances of each anchor's positives, in candidate order.
template <class T>
struct Positives {
  const int64_t*
      offset;      // [M + 1] where the anchor's slots begin; an anchor without slots is left out
  int32_t* count;  // [M] slots filled
  T* distance;     // [slots]
  int32_t* index;  // [slots] candidate position
};

// extremum: one candidate per anchor, the closest or the farthest.
template <class T>
struct Extremum {
  T* distance;     // [M]
  int32_t* index;  // [M] candidate position, -1 for none
};

// successor: see semantics/successor.h. An anchor's slots are padded to a power of two, kSlotPad
// at least, and its thresholds there with +infinity.
inline constexpr int64_t kSlotPad = 16;

template <class T>
struct Successors {
  const int64_t* offset;  // [M] where the anchor's slots begin
  const int32_t* count;   // [M] thresholds; an anchor with 0 is left out
  const T* threshold;     // [slots] ascending
  // [slots] A distance improves bucket k where threshold[k] < d <= bound[k]. The bound is the next
  // threshold, until the bucket has a negative; from then on it is the closest one's distance.
  T* bound;
  int32_t* index;        // [slots] position of the bucket's closest candidate, -1 for none
  Extremum<T> farthest;  // null pointers where no fallback needs it
};

// random: for each positive of each anchor the negative with the smallest key of those that
// qualify: see semantics/random.h.
template <class T>
struct RandomNegatives {
  const int64_t* offset;          // [M] where the anchor's slots begin
  const int32_t* count;           // [M] positives
  const T* d_ap;                  // [slots]
  const uint32_t* anchor_word;    // [M] of the anchor's negatives
  const uint32_t* positive_word;  // [slots]
  uint64_t* key;                  // [slots] kNoKey before
  int32_t* index;                 // [slots] candidate position, -1 before
  T* distance;                    // [slots]
  bool semihard;                  // of the uniform rules
  T margin;                       // of the uniform rules
  DistanceWeights weights;        // of the weighted rule
};

// band: see semantics/band.h. The anchors of one side and their positives. An anchor's slots are a
// power of two, kSlotPad at least: minus infinity, its positives' distances in ascending order, and
// infinity up to the end.
template <class T>
struct BandAnchors {
  const Pairs<T>* pairs;  // null: this side's anchors take no part
  const int64_t* offset;  // [M + 1]
  const int32_t* count;   // [M] positives; 0: the anchor takes no part
  const T* threshold;     // [slots]
  const T* reach;         // [slots] of the k-th positive, from 0 on: see reach_of
};

// What the triplets of an anchor add up to, the hinge's share of the positives left out.
template <class T>
struct BandTotals {
  double* negatives;  // [M] hinge: sum over triplets of d(a, n); smooth: the loss itself
  int64_t* active;    // [M] triplets with a positive hinge
  int64_t* counted;   // [M] triplets of the kind; only where asked for, or smooth
  int32_t* entering;  // [slots] hinge, by place: triplets of the next positive less those of this
  T* weight;          // [slots] smooth, by place: the sum of the positive's slopes
};

// Rows are one side of the pairs, columns the other: `rows` has the rows' anchors, `columns` the
// columns', which push the rows as negatives. In self mode both are the same.
template <class T>
struct BandKernel {
  TripletKind kind;
  T margin;
  bool smooth;
  bool counts;  // fill `counted`
  BandAnchors<T> rows, columns;
  BandTotals<T> totals;  // of the rows' anchors
  const int32_t* order;  // [rows] the caller's row of each
  T* gradient;           // [rows, dim] in the caller's order, negatives' share; null: not wanted
};

// softmax: see semantics/softmax.h. [M] by sorted position, with room for the last panel.
template <class T>
struct SoftmaxAnchors {
  T* closest;          // of the softmax; infinity before
  double* sum;         // of exp((closest - d) / t); 0 before
  double* terms;       // of the positives; 0 before
  double* slopes;      // of the positives; 0 before
  int64_t* positives;  // 0 before
  // What the weights of a pair are made of.
  T* log_sum;
  T* factor;  // of exp((closest - d) / t)
  T* share;   // of a positive's slope
};

// Rows are one side of the pairs, columns the other. In self mode both are anchors.
template <class T>
struct SoftmaxKernel {
  SoftmaxLoss loss;
  T temperature;
  const Pairs<T>* pairs;
  bool rows, columns;  // whether these are anchors
  SoftmaxAnchors<T> anchors;
};

// For each row r of `rows`: out[r] = scale * (added[r] + sum over its edges of coefficient * (x[r]
// - y[other])), where added[r] is what out[r] held (with `add`) or 0. Edges in compressed rows; a
// second set, over another matrix, may be added.
template <class T>
struct Edges {
  const int64_t* begin;  // [rows + 1]
  const int32_t* other;
  const T* coefficient;
  const T* rows;  // the matrix that `other` indexes, [*, dim]
};

// histogram: pairs by the bin of their distance, those of one class and then the others.
struct Histogram {
  Bins bins;
  int64_t sets;             // of counters: one for each worker, or one that all share
  std::atomic<bool>* busy;  // [sets] false before; null: shared
  int64_t* counts;          // [sets, 2, bins.columns()] 0 before
};

// nearest: lists of candidates that hold the k closest ones of each anchor, in any order.
template <class T>
struct Nearest {
  struct Candidate {
    T distance;
    int32_t position;
    bool operator<(const Candidate& other) const {  // closer() of two that are taken, not NaN
      return (distance < other.distance) |
             ((distance == other.distance) & (position < other.position));
    }
  };
  int64_t k;
  int64_t capacity;      // of a list; more than k, if there are more candidates than k
  Candidate* candidate;  // [M, capacity]
  int32_t* count;        // [M] 0 before
  T* bound;              // [M] no candidate beyond it is among the k closest; infinity before
};

// within: pairs that are no farther apart than the radius, up to the capacity.
template <class T>
struct Within {
  T radius;
  int64_t capacity;
  std::atomic<int64_t>* count;  // of all pairs within the radius; 0 before
  int64_t* pairs;               // [capacity, 2] positions
  T* distance;                  // [capacity]
};

}  // namespace facenet::cpu
