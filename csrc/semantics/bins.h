// The bin of a distance: by the bits of the number, so that edges are floating-point numbers.
//
// The bits of a float ascend with its value. Cut at a power of two they give bins of nearly one
// relative width, 2^(shift - 23) of a float32; with a shift of 0 every number has a bin of its own.
// A histogram of all of them and then one of what lies in a single bin finds any order statistic
// exactly, without keeping a pair.
#pragma once

#include <type_traits>

#include "semantics/key.h"

namespace facenet {

struct Bins {
  int64_t low;    // bits of the first bin's lower edge
  int64_t count;  // bins; columns are one more on either side
  int shift;      // bits that a bin leaves open

  FACENET_HD int64_t columns() const { return count + 2; }
};

// 0 below the first bin, count + 1 beyond the last: there are infinity and NaN, whatever its sign.
template <class T>
FACENET_HD int64_t bin_column(T distance, const Bins& bins) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const int64_t bits = int64_t(bits_of(distance) & Bits(~Bits(0) >> 1));
  const int64_t offset = bits - bins.low;
  if (offset < 0) return 0;
  const int64_t bin = offset >> bins.shift;
  return (bin < bins.count ? bin : bins.count) + 1;
}

}  // namespace facenet
