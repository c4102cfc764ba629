// Which triplets of an anchor a kind counts, and what one of them adds.
//
// A negative at distance d and a positive at distance t have the gap g = d - t, rounded once, and
// the hinge max(0, margin - g). With an anchor's positives in ascending order g descends. Each
// condition below therefore holds for one contiguous range of them, a *band*. Two binary searches
// find it:
//
//   kind        g                counted from      to, of the ascending t
//   all         any              0                 P
//   hard        g <= 0           beyond(0)         P
//   semihard    0 < g <= margin  beyond(margin)    beyond(0)
//   easy        g > margin       0                 beyond(margin)
//
// where beyond(x) is how many t have g > x. Of those the hinge is positive where g < margin, from
// reaches(margin) on, where reaches(x) is how many t have g >= x.
#pragma once

#include <cstring>
#include <limits>
#include <type_traits>

#include "semantics/portable.h"

namespace facenet {

enum class TripletKind : int32_t { kAll, kHard, kSemihard, kEasy };

// The positives [begin, end) of an ascending row.
struct Band {
  int64_t begin, end;
  FACENET_HD int64_t size() const { return end > begin ? end - begin : 0; }
};

// How many of the ascending t have a gap d - t above x, or with kOrEqual at least x.
template <bool kOrEqual, class T>
FACENET_HD int64_t count_gaps(const T* t, int64_t count, T d, T x) {
  int64_t begin = 0;
  for (int64_t size = count; size > 0;) {
    const int64_t half = size / 2;
    const T gap = d - t[begin + half];
    const bool up = kOrEqual ? gap >= x : gap > x;
    begin = up ? begin + half + 1 : begin;
    size = up ? size - half - 1 : half;
  }
  return begin;
}

// The smallest distance d whose gap d - t, rounded, is at least the margin; NaN where there is
// none. A gap grows with its distance, so d >= reach_of(t, margin) decides without a subtraction.
template <class T>
inline T reach_of(T t, T margin) {
  // Distances are not negative: their bits, read as integers, have their order.
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  const auto bits = [](T d) {
    Bits b;
    std::memcpy(&b, &d, sizeof b);
    return b;
  };
  const auto value = [](Bits b) {
    T d;
    std::memcpy(&d, &b, sizeof d);
    return d;
  };
  const auto reaches = [&](Bits b) { return value(b) - t >= margin; };
  const Bits last = bits(std::numeric_limits<T>::infinity());
  const T guess = t + margin;
  Bits low = guess > T(0) ? bits(guess) : 0, high = low;  // low does not reach, high does
  if (reaches(low)) {
    for (Bits step = 1; low >= 0 && reaches(low); step *= 2) {
      high = low;
      low = low > step ? low - step : -1;  // nothing is below 0
    }
  } else {
    for (Bits step = 1; high < last && !reaches(high); step *= 2) {
      low = high;
      high = high < last - step ? high + step : last;
    }
    if (!reaches(high)) return std::numeric_limits<T>::quiet_NaN();
  }
  while (high - low > 1) {
    const Bits middle = low + (high - low) / 2;
    (reaches(middle) ? high : low) = middle;
  }
  return value(high);
}

// Whether a kind has its gaps end at 0 (hard, semihard).
FACENET_HD bool splits_at_zero(TripletKind kind) {
  return kind == TripletKind::kHard || kind == TripletKind::kSemihard;
}

// The band with a positive hinge. `reaches` is reaches(margin), `above` is beyond(0).
template <class Index>
FACENET_HD Band active_band(TripletKind kind, Index reaches, Index above, Index count) {
  switch (kind) {
    case TripletKind::kAll:
      return {reaches, count};
    case TripletKind::kHard:
      return {reaches > above ? reaches : above, count};
    case TripletKind::kSemihard:
      return {reaches, above};
    default:
      return {0, 0};
  }
}

// All that the kind counts. `above` is beyond(0), `easy` is beyond(margin).
template <class Index>
FACENET_HD Band counted_band(TripletKind kind, Index easy, Index above, Index count) {
  switch (kind) {
    case TripletKind::kAll:
      return {0, count};
    case TripletKind::kHard:
      return {above, count};
    case TripletKind::kSemihard:
      return {easy, above};
    default:
      return {0, easy};
  }
}

// The same for one triplet.
template <class T>
FACENET_HD bool is_of_kind(TripletKind kind, T gap, T margin) {
  switch (kind) {
    case TripletKind::kAll:
      return true;
    case TripletKind::kHard:
      return gap <= T(0);
    case TripletKind::kSemihard:
      return gap > T(0) && gap <= margin;
    default:
      return gap > margin;
  }
}

}  // namespace facenet
