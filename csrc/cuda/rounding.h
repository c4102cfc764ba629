// How far the distances of a search may be from each other, by products and by differences.
//
// All in eps = 2^-23, a float32's last digit, and worst cases throughout.
//
// Matrix units add n products to the accumulator c in one step. They align these n + 1 summands to
// the largest of them, m, cut each off at g bits beyond a float32's last digit there, add, and cut
// the sum off at a float32's last digit. The largest loses nothing, each other at most 2^-g eps m,
// the sum at most eps times itself:
//
//                          n   g   a step, (n 2^-g + 1) eps m   for each column
//   sm_80, 16-bit types    8   1   5                            5/8
//   sm_80, TF32            4   1   3                            3/4
//   sm_90, 16-bit types   16   2   5                            5/16
//   sm_90, TF32            8   2   3                            3/8
//
// This has been measured (M. Fasi, N. Higham, M. Mikaitis, S. Pranesh, Numerical behavior of NVIDIA
// tensor cores, 2021; F. Khattak, M. Mikaitis, Accurate models of NVIDIA tensor cores, 2025), but
// NVIDIA promises none of it: every device gets the larger figure, that of sm_80. All losses go the
// same way where products have one sign, so a bound that counts on their cancelling is wrong: near-
// parallel rows left a band of 1/32 for each column from some 80 columns on.
//
// The accumulator starts at 0, so that neither a product nor a sum of them is larger than |x| |y|,
// and 2 |x| |y| <= |x|^2 + |y|^2. So of |x|^2 + |y|^2 - 2 x.y, relative to |x|^2 + |y|^2, in eps
// and with D columns:
//
//   5/8 D       the products of 16-bit types
//   9/4 D       those of float32: three times TF32's (3xTF32)
//   24          what 3xTF32 leaves out. x = big + small + rest, all cut off: big has 11 digits of
//               24 and small the next 11, so that |small| <= 2^-10 |x| and |rest| <= 2^-20 |x|.
//               What is left out is small.small and a rest of each side: 3 times 2^-20 |x| |y|
//   D / 64 + 3  |x|^2 and |y|^2, added up by the lanes of a warp (look_at_rows)
//   2           their sum, and the last multiply-add
//
// The cosine, 1 - x.y / (|x| |y|), is no worse: its product counts once and is at most 1; the two
// inverse norms, and rows that are scaled by them before differences are taken, are D / 32 + 12.
// 12 + D / 32 therefore stands for all but products and split. It has room for the largest sum's
// own error, some 0.1 % of |x| |y|.
//
// A distance by differences rounds to nearest in each of D multiply-adds: (D / 2 + 2) eps of
// itself.
#pragma once

#include <cstdint>
#include <limits>

#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

struct SearchRounding {
  float products = 0;     // of a distance, relative to the squares of both rows; of a cosine, to 1
  float differences = 0;  // relative to the distance
};

inline SearchRounding search_rounding(Element element, int32_t dim) {
  constexpr float kEps = std::numeric_limits<float>::epsilon();
  const bool split = element == Element::kFloat;
  const float d = float(dim);
  const float products = split ? 2.25f * d + 24 : 0.625f * d;
  return {(products + d / 32 + 12) * kEps, (d / 2 + 2) * kEps};
}

}  // namespace facenet::cuda
