// The bins of distance_histogram, checked.
#pragma once

#include <vector>

#include "common/checks.h"
#include "semantics/bins.h"

namespace facenet {

inline Bins check_bins(ScalarType embeddings, const std::vector<int64_t>& low, int64_t shift,
                       int64_t bins) {
  constexpr int64_t kMost = int64_t(1) << 22;
  const int width = embeddings == ScalarType::Double ? 63 : 31;
  const int64_t windows = int64_t(low.size());
  FACENET_CHECK(windows >= 1 && windows <= Bins::kMostWindows, "low: expected 1 to ",
                Bins::kMostWindows, " windows, got ", windows);
  FACENET_CHECK(shift >= 0 && shift < width, "shift: expected 0 to ", width - 1, ", got ", shift);
  FACENET_CHECK(bins >= 1 && bins <= kMost, "bins: expected 1 to ", kMost, ", got ", bins);
  Bins checked{};
  for (int64_t w = 0; w < windows; ++w) {
    FACENET_CHECK(low[w] >= 0 && (low[w] >> (width - 1) >> 1) == 0,
                  "low: expected the bits of a distance, got ", low[w]);
    FACENET_CHECK(w == 0 || (low[w] >= low[w - 1] && (low[w] - low[w - 1]) >> shift >= bins),
                  "low: expected windows in order and apart, got ", low[w], " after ", low[w - 1]);
    checked.low[w] = low[w];
  }
  checked.windows = int(windows);
  checked.shift = int(shift);
  checked.count = bins;
  return checked;
}

}  // namespace facenet
