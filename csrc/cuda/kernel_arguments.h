// The plain structures that the kernels take. Nothing here owns memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "semantics/distance.h"

namespace facenet::cuda {

enum class Element : int32_t { kFloat, kDouble, kHalf, kBFloat16 };

__host__ __device__ constexpr int element_bytes(Element element) {
  return element == Element::kDouble ? 8 : element == Element::kFloat ? 4 : 2;
}

// A batch: rows in the caller's memory and type, found through the order that sorts them by label.
// No copy of them is converted, and MmaLoop alone reads a sorted one (panels.h).
//
// T is the type of the arithmetic, float or double. If T is float, rows hold float, half or
// bfloat16.
template <class T>
struct Rows {
  const void* data;        // [count, dim]
  const T* inverse_norms;  // [count] by the caller's row; null unless the distance is the cosine
  const int32_t* order;    // [count] the caller's row of each sorted position; null: the same
  int32_t count;
  int32_t dim;
  Element element;
  Distance distance;
  bool aligned;  // data, to 16 bytes

  __device__ int32_t row(int32_t position) const {
    return order == nullptr ? position : order[position];
  }
  // What a row is multiplied by: 1 / its norm for the cosine, else 1.
  __device__ T factor(int32_t row) const {
    return inverse_norms == nullptr ? T(1) : inverse_norms[row];
  }
  __device__ bool is_zero(int32_t row) const {
    return inverse_norms != nullptr && inverse_norms[row] == T(0);
  }
  __device__ T raw(int32_t row, int32_t k) const;  // rows.cuh
};

// Anchors and candidates of one call. In self mode both are the same rows.
template <class T>
struct Pairs {
  Rows<T> anchors;
  Rows<T> candidates;
  const int32_t* class_begin;  // [M] sorted positions of the candidates of the anchor's class
  const int32_t* class_end;
  const int64_t* anchor_ids;  // [M], [N] by the caller's row, or null
  const int64_t* ref_ids;
  bool self;

  // Whether the candidate may not be the anchor's positive. Sorted positions.
  __device__ bool excluded(int32_t anchor, int32_t candidate) const {
    if (self) return anchor == candidate;
    return anchor_ids != nullptr &&
           anchor_ids[anchors.row(anchor)] == ref_ids[candidates.row(candidate)];
  }
};

// Slots of pairs (anchor, positive): slot k of sorted anchor i is offset[i] + k.
struct Slots {
  const int64_t* offset;  // [M]
  const int32_t* count;   // [M] rows of the anchor's class; 0 where it takes no part
};

// Where a block of the pair stream works: a tile of anchors against a stripe of candidates.
struct Stripes {
  int32_t tiles_per_stripe;  // of candidates; 0: the candidates of the anchors' own classes
  bool from_diagonal;        // leave out the tiles whose transpose another block has
};

// A kernel that may turn out not to be needed, decided on the device: it runs where *flag == value.
struct Guard {
  const int32_t* flag;  // null: always
  int32_t value;
  __device__ bool open() const { return flag == nullptr || *flag == value; }
};

}  // namespace facenet::cuda
