// The gradient of a sum over pairs: edges (i, j) with weight w push x_i by w (x_i - y_j).
//
// There are no atomics on floating-point numbers. Every row gathers the edges that push it, in a
// fixed order. An anchor's own edges lie in its slots. The edges from other rows are sorted by the
// row they push. This sort is stable, so equal calls add in equal order. Of few rows there is no
// sort: blocks have the edges of a few anchors in the order of their rows, and a row looks them up.
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

// Of a group of anchors and kRows rows: which anchors push which of them.
struct alignas(8) PushCell {
  static constexpr int kRows = 3;

  // Four half-words: bit b of the j-th is that of anchor b and row j; the last one is the number of
  // the first edge, modulo 2^16. Where it is 2^16 there are no edges.
  uint32_t words[2];

  static __host__ __device__ int32_t cells_for(int64_t rows) {
    return int32_t((rows + kRows - 1) / kRows);
  }
};

// The edges of anchors to negatives once more, by the rows that they push. Sorted anchors are taken
// `anchors` at a time, a *group*, as blocks have them. A group has its edges in the order of their
// rows, and of a row in that of the anchors. An anchor has one edge to a row here.
template <class T>
struct PushTable {
  static constexpr int64_t kMostRows = 4096;  // 16 anchors have 2^16 edges to them, no more

  PushCell* cells;  // [cells of the rows][groups]; null: there is no table
  int32_t* begin;   // [groups] where the group's edges are
  T* weight;        // [slots + M] of all edges
  int32_t row_cells;
  int32_t anchors;  // up to 16
  int32_t groups;

  PushTable() = default;
  PushTable(int64_t all_anchors, int32_t of_a_group, int64_t rows)
      : cells(nullptr),
        begin(nullptr),
        weight(nullptr),
        row_cells(PushCell::cells_for(rows)),
        anchors(of_a_group),
        groups(int32_t((all_anchors + of_a_group - 1) / of_a_group)) {}

  int64_t count() const { return int64_t(groups) * row_cells; }
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
  const T* weight;           // [slots + M] of the same edges,
  int32_t weights_apart;     // so far from each other
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
  PushTable<T> pushes;   // or these
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
