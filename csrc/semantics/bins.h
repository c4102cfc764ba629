// The column of a distance in a histogram: by the bits of the number, so that edges are
// floating-point numbers.
//
// The bits of a float ascend with its value. A bin holds the numbers whose bits agree but for the
// last `shift`, so bins have nearly one relative width, 2^(shift - 23) for a float32. With a shift
// of 0 every number has its own bin. Bins lie in windows, and all windows have the same number of
// bins. Pairs between two windows are counted as one gap. If it is roughly known where several
// order statistics are, one pass finds all of them exactly, without keeping a pair.
//
// The columns are: below all windows, the bins of the first window, the gap behind it, the bins of
// the second window, ..., beyond all windows, and what is not finite: infinity and NaN.
#pragma once

#include <type_traits>

#include "semantics/key.h"

namespace facenet {

struct Bins {
  static constexpr int kMostWindows = 16;

  int64_t low[kMostWindows];  // bits of each window's lower edge, a window apart or more
  int windows;                // 1 or more
  int shift;                  // bits that a bin leaves open
  int64_t count;              // bins of a window

  // Bits of a window's upper edge, as far as there are any.
  FACENET_HD int64_t end(int window) const {
    const int64_t room = INT64_MAX - low[window];
    return count <= room >> shift ? low[window] + (count << shift) : INT64_MAX;
  }
  FACENET_HD int64_t gap(int window) const { return window * (count + 1); }  // the one before it
  FACENET_HD int64_t beyond() const { return gap(windows); }
  FACENET_HD int64_t not_finite() const { return beyond() + 1; }
  FACENET_HD int64_t columns() const { return beyond() + 2; }
};

struct Column {
  int64_t number;
  int gap;  // its number if it is a gap, from 0 to windows; else -1
};

template <class T>
FACENET_HD Column column_of(T distance, const Bins& bins) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  using Offset = std::make_signed_t<Bits>;  // so that a float's bins are found in 32 bits
  constexpr Bits kInfinity = sizeof(T) == 4 ? Bits(0x7f800000u) : Bits(0x7ff0000000000000u);
  const Bits bits = bits_of(distance) & Bits(~Bits(0) >> 1);  // a NaN may have a sign
  if (bits >= kInfinity) return {bins.not_finite(), -1};
  Column column{0, 0};
  for (int w = 0; w < bins.windows; ++w) {
    const Offset offset = Offset(bits) - Offset(bins.low[w]);
    if (offset < 0) break;
    const Offset bin = offset >> bins.shift;
    column = bin < Offset(bins.count) ? Column{bins.gap(w) + 1 + bin, -1}
                                      : Column{bins.gap(w + 1), w + 1};
  }
  return column;
}

}  // namespace facenet
