// The gradient of a sum over pairs: edges (i, j) with coefficient c push x_i by c * (x_i - y_j).
//
// Scattering to both ends would need atomics or copies. Instead the edges are grouped by the row
// they push (compressed rows), once by either end, and every row gathers its own edges. So each row
// has one writer and a fixed order, and the result has the same bits on any number of threads.
#pragma once

#include <vector>

#include "cpu/buffer.h"
#include "cpu/rows.h"

namespace facenet::cpu {

template <class T>
struct EdgeList {
  Buffer<int64_t> begin;  // [rows + 1]
  Buffer<int32_t> other;  // [edges]
  Buffer<T> coefficient;  // [edges]
  int64_t rows = 0;

  EdgeList(int64_t row_count, int64_t edges)
      : begin(row_count + 1), other(edges), coefficient(edges), rows(row_count) {}
  int64_t edges() const { return begin[rows]; }
  Edges<T> view(const T* matrix) const {
    return {begin.data(), other.data(), coefficient.data(), matrix};
  }
};

// The same edges grouped by their other end, [other_rows]. Those of one group ascend by their row
// in `edges`.
template <class T>
EdgeList<T> transpose(const EdgeList<T>& edges, int64_t other_rows);

// out[r, :] = scale * sum over the edges of row r of coefficient * (x_r - other), carried back
// through the normalisation where the distance is the cosine. [rows, dim]
// With `add` the sum includes what `out` holds before the call.
template <class T>
void gather(const Rows<T>& x, const std::vector<Edges<T>>& sets, Distance distance, T scale, T* out,
            bool add = false);

}  // namespace facenet::cpu
