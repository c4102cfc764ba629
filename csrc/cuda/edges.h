// The gradient of a sum over pairs: edges (i, j) with weight w push x_i by w (x_i - y_j).
//
// There are no atomics on floating-point numbers. Every row gathers the edges that push it, in a
// fixed order. An anchor's own edges lie in its slots. The edges from other rows are sorted by the
// row they push. This sort is stable, so equal calls add in equal order. Of few rows there is no
// sort: a bit for each anchor and row says which anchors push which rows.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

// An edge adds weight * (row - other) to the gradient of the row that it pushes.
template <class T>
struct Edge {
  int32_t other;  // the caller's row
  T weight;
};

// Edges grouped by the row that they push: ascending rows, then unused edges.
template <class T>
struct EdgeList {
  const uint32_t* row;  // [count]; kNoRow where unused
  const Edge<T>* edge;  // [count]
  int64_t count;
};

constexpr uint32_t kNoRow = 0x7fffffffu;

// Which anchors push which rows. Sorted anchors are taken `anchors` at a time, as blocks had them:
// bit b of half-word [g][row] is that of anchor g * anchors + b.
struct PushBits {
  uint32_t* words;    // [groups][row_words]; null: not known
  int32_t row_words;  // two rows each
  int32_t anchors;    // up to 16
  int32_t groups;

  PushBits() = default;
  PushBits(int64_t all_anchors, int32_t of_a_group, int64_t rows)
      : words(nullptr),
        row_words(words_for(rows)),
        anchors(of_a_group),
        groups(int32_t((all_anchors + of_a_group - 1) / of_a_group)) {}

  int64_t count() const { return int64_t(groups) * row_words; }
  static int32_t words_for(int64_t rows) { return int32_t((rows + 1) / 2); }
};

// Sorts edges by the row that they push. Rows are below `rows`, or kNoRow for an unused edge.
template <class T>
void sort_edges(const Device& device, int64_t rows, const EdgeList<T>& from, uint32_t* row,
                Edge<T>* edge);

// The edges of anchors, in their slots: those to positives, the k-th row of the class, and those to
// negatives, each with a row of its own. Behind all slots: one to each anchor's farthest negative.
template <class T>
struct SlotEdges {
  Slots slots;
  const T* positive;         // [slots] weights; 0: no edge
  const uint32_t* negative;  // [slots + M] the caller's row; kNoRow: no edge; null: none at all
  const Edge<T>* incoming;   // [slots + M] the same edge as the negative has it
  int64_t slot_total;
  const int32_t* class_begin;  // [M] of the anchor among the candidates
};

// The edges that make up the gradient of some rows.
template <class T>
struct Gathered {
  Rows<T> rows;        // whose gradient, in sorted order
  Rows<T> others;      // what they are pushed from
  bool as_anchors;     // by their own slots' edges
  bool as_candidates;  // by the positive edges of the anchors of their class
  SlotEdges<T> slot_edges;
  const int32_t* anchors_begin;  // [rows] sorted anchors of the row's class
  const int32_t* anchors_end;
  EdgeList<T> incoming;  // as candidates, by the negative edges of all anchors: these, sorted,
  PushBits pushes;       // or these bits, by which the rows find them in the slots
  EdgeList<T> inner;     // from `rows` themselves, where others push them too
  const T* partial;      // [partials, rows, dim] by sorted position: sums to be added
  int32_t partials;
  const T* scale;  // one number, on the device
};

// out[r, :] = scale * (partial sums + sum of weight * (x_r - other)), carried back through the
// normalisation where the distance is the cosine. [rows, dim]
template <class T>
void gather(const Device& device, const Gathered<T>& from, T* out);

}  // namespace facenet::cuda
