// nearest: the k closest candidates of each anchor.
//
// As in extremum, most vectors hold nothing within the anchor's bound, and cost one comparison.
// What is within it joins the anchor's list, 2 k long. A full list is cut to the k closest, and the
// last of these is the new bound: of N candidates about k log2(N / k) join. To keep the list
// sorted, so that the bound is always the k-th, took twice as long with k = 100.
#pragma once

#include <utility>

#include "cpu/pair_stream.h"

namespace facenet::FACENET_ISA {

// Moves the k closest of `count` candidates to the front, in any order. Quickselect, by a partition
// without branches: whether a candidate is closer than another one cannot be predicted.
template <class Candidate>
void select_closest(Candidate* list, int64_t count, int64_t k) {
  int64_t begin = 0, end = count;  // those before are among the k closest, those after are not
  while (end - begin > 1) {
    // The pivot, the median of three, waits at the front.
    Candidate &low = list[begin + 1], &pivot = list[begin], &high = list[end - 1];
    std::swap(pivot, list[begin + (end - begin) / 2]);
    if (end - begin > 2) {
      if (high < low) std::swap(low, high);
      if (pivot < low) std::swap(pivot, low);
      if (high < pivot) std::swap(pivot, high);
    }
    const Candidate than = pivot;
    int64_t to = begin + 1;
    for (int64_t at = begin + 1; at < end; ++at) {
      const bool before = list[at] < than;
      std::swap(list[at], list[to]);
      to += before;
    }
    const int64_t place = to - 1;
    std::swap(list[begin], list[place]);
    if (place == k || place + 1 == k) return;
    (place > k ? end : begin) = place + (place < k);
  }
}

template <class T>
struct NearestEpilogue {
  using Candidate = typename Nearest<T>::Candidate;
  static constexpr Which kWhich = Which::kAll;
  static constexpr bool kByCandidate = false;
  const Pairs<T>& pairs;
  Nearest<T> to;

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      Candidate* list = to.candidate + anchor * to.capacity;
      for (int at = 0; at < count; at += kGroup * W<T>) {
        const Vec<T> bound = broadcast(to.bound[anchor]);
        uint32_t level[kGroup];
#pragma GCC unroll 6
        for (int v = 0; v < kGroup; ++v) level[v] = greater_equal(bound, load(d + at + v * W<T>));
        uint64_t lanes = join<T>(level) & first_lanes(count - at);
        if (__builtin_expect(lanes == 0, 1)) continue;
        int32_t size = to.count[anchor];
        for (; lanes != 0; lanes &= lanes - 1) {
          const int l = at + __builtin_ctzll(lanes);
          const int64_t j = first + l;
          if (pairs.self && j == anchor) continue;
          list[size++] = {d[l], int32_t(j)};
          if (size == to.capacity) size = cut(anchor, list);
        }
        to.count[anchor] = size;
      }
    });
  }

 private:
  int32_t cut(int64_t anchor, Candidate* list) {
    if (to.capacity > to.k) select_closest(list, to.capacity, to.k);
    T last = list[0].distance;
    for (int64_t e = 1; e < to.k; ++e) last = list[e].distance > last ? list[e].distance : last;
    to.bound[anchor] = last;
    return int32_t(to.k);
  }
};

}  // namespace facenet::FACENET_ISA
