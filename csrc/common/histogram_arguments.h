// The bins of distance_histogram, checked.
#pragma once

#include "common/checks.h"
#include "semantics/bins.h"

namespace facenet {

inline Bins check_bins(ScalarType embeddings, int64_t low, int64_t shift, int64_t bins) {
  constexpr int64_t kMost = int64_t(1) << 22;
  const int width = embeddings == ScalarType::Double ? 63 : 31;
  FACENET_CHECK(low >= 0 && (low >> (width - 1) >> 1) == 0,
                "low: expected the bits of a distance, got ", low);
  FACENET_CHECK(shift >= 0 && shift < width, "shift: expected 0 to ", width - 1, ", got ", shift);
  FACENET_CHECK(bins >= 1 && bins <= kMost, "bins: expected 1 to ", kMost, ", got ", bins);
  return {low, bins, int(shift)};
}

}  // namespace facenet
