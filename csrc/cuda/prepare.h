// What a call computes of its rows before it looks at any pair.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"
#include "cuda/panels.h"

namespace facenet::cuda {

// On the device, zero at first.
struct RowFlags {
  int32_t not_finite;       // 1: some embedding is infinite or NaN
  int32_t unfit;            // 1: some square is too large or too small for products
  uint32_t largest_square;  // of a row, as bits
  int32_t needs_direct;  // 1: products would lose too many digits, so the search uses differences
  int32_t blocks_done;
};

// Looks at every row: flags->not_finite; `inverse_norms` [count] by the caller's row (null unless
// cosine); `packed` for products (null: not wanted).
template <class T>
void prepare_rows(const Device& device, const Rows<T>& rows, T* inverse_norms,
                  const PackedRows& packed, RowFlags* flags);

// Whether MmaLoop can and should serve these rows on this device.
template <class T>
bool wants_products(const Device& device, const Rows<T>& anchors, const Rows<T>& candidates);

// Decides flags->needs_direct from a sample of the rows. `partial` [2 * centre_blocks(dim)].
int64_t centre_blocks(int64_t dim);
void look_for_offset(const Device& device, const Rows<float>& rows, float* partial,
                     RowFlags* flags);

}  // namespace facenet::cuda
