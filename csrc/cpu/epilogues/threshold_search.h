// A binary search for a vector of distances at once, and the queue of what it finds.
//
// A table that fits into a few registers is searched by permutations (AVX-512: one or two
// instructions for all lanes). A longer table lies in memory. Its first rounds go over W evenly
// spaced values in one register, and the other rounds gather from memory. Compared with a scalar
// search in each lane, the whole training step (forward and backward, one thread) went from 113 to
// 29 ms (AVX2, N = 1800, 40 per class), and from 1061 to 197 ms (AVX-512, N = 4096, 256 per class).
#pragma once

#include "cpu/pair_stream.h"
#include "cpu/simd.h"

namespace facenet::FACENET_ISA {

// `size` values, a power of two and at least W.
template <class T>
struct MemoryTable {
  const T* values;
  int size;

  MemoryTable(const T* values_, int size_) : values(values_), size(size_) {}
  Vec<T> operator[](Index<T> i) const { return gather(values, i); }
  Vec<T> evenly_spaced() const { return gather(values, lane_numbers<T>() * (size / W<T>)); }
};

#if defined(__AVX512F__)
template <class T, int kRegisters>
struct RegisterTable {
  static constexpr int size = kRegisters * W<T>;
  Vec<T> part[kRegisters];

  RegisterTable(const T* values, int) {
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) part[i] = load(values + i * W<T>);
  }
  Vec<T> operator[](Index<T> i) const {
    if constexpr (kRegisters == 1) return pick(part[0], i);
    if constexpr (kRegisters == 2) return pick(part[0], part[1], i);
    if constexpr (kRegisters == 4) {
      return choose(any_bit(i, index<T>(2 * W<T>)), pick(part[2], part[3], i),
                    pick(part[0], part[1], i));
    }
  }
  Vec<T> evenly_spaced() const { return (*this)[lane_numbers<T>() * kRegisters]; }
};
#endif

// A binary search in all lanes at once: the last index of the table whose value satisfies a
// condition that holds for the first value and then up to some other one. `advance` gets places,
// the values a step further on, and the step. It returns the places, a step further on in the lanes
// whose value satisfies the condition.
template <class T, class Table, class Advance>
inline Index<T> last_reached(const Table& table, Vec<T> coarse, Advance&& advance) {
  Index<T> k = index<T>(0);
  int step = table.size / 2;
  if constexpr (kCanPick<T>) {
#pragma GCC unroll 4
    for (int s = W<T> / 2; s >= 1; s /= 2) k = advance(k, pick(coarse, k + s), s);
    k *= table.size / W<T>;
    step = table.size / W<T> / 2;
  }
#pragma GCC unroll 2
  for (; step >= 1; step /= 2) k = advance(k, table[k + step], step);
  return k;
}

// The last index whose value is below x.
template <class T, class Table>
inline Index<T> last_below(const Table& table, Vec<T> coarse, Vec<T> x) {
  return last_reached<T>(table, coarse, [x](Index<T> k, Vec<T> value, int step) {
    return add_where_above<false, T>(k, x, value, step);
  });
}

// The last index whose gap d - value is above x, or with kOrEqual at least x.
template <bool kOrEqual, class T, class Table>
inline Index<T> last_gap(const Table& table, Vec<T> coarse, Vec<T> d, Vec<T> x) {
  return last_reached<T>(table, coarse, [d, x](Index<T> k, Vec<T> value, int step) {
    return add_where_above<kOrEqual, T>(k, d - value, x, step);
  });
}

// Calls f with the `slots` values as the fastest table for their number.
template <class T, class F>
inline void with_table(const T* values, int slots, F&& f) {
#if defined(__AVX512F__)
  if (slots == W<T>) return f(RegisterTable<T, 1>(values, slots));
  if (slots == 2 * W<T>) return f(RegisterTable<T, 2>(values, slots));
  if (slots == 4 * W<T>) return f(RegisterTable<T, 4>(values, slots));
#endif
  f(MemoryTable<T>(values, slots));
}

// Pairs of a tile that improve their bucket, queued and settled once per tile. A branch for each
// vector ("does any lane improve?") is unpredictable, and would make each search wait for the one
// before. With N = 1800, 40 per class, on one thread the step took 11 ms with a queue per row and
// 9 ms with this one.
template <class T>
struct Improvements {
  static constexpr int kBits = 6;  // of a row, of a column; the rest is the bucket
  static_assert(kPanel <= 1 << kBits);
  static constexpr int64_t kMostBuckets = int64_t(1) << (32 - 2 * kBits);
  using Entry = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  alignas(64) Entry entry[kPanel * kPanel + W<T>];
  int size = 0;

  int column(int e) const { return int(entry[e] & ((1 << kBits) - 1)); }
  int row(int e) const { return int((entry[e] >> kBits) & ((1 << kBits) - 1)); }
  int bucket(int e) const { return int(entry[e] >> (2 * kBits)); }
};

// Queues the distances of one row that lie in (t[k], bound[k]] of their bucket k.
template <class T, class Table>
inline void find_improvements(const Table& thresholds, const Table& bounds, T first, int count,
                              const T* d, int row, int column, Improvements<T>& improvements) {
  constexpr int kBits = Improvements<T>::kBits;
  const Vec<T> coarse = thresholds.evenly_spaced(), lowest = broadcast(first);
  Index<T> place = lane_numbers<T>() + (column + (row << kBits));
  for (int at = 0; at < count; at += W<T>) {
    const Vec<T> x = load(d + at);
    const Index<T> k = last_below<T>(thresholds, coarse, x);
    const uint32_t lanes = inside<T>(x, lowest, bounds[k]) & uint32_t(first_lanes(count - at));
    improvements.size +=
        store_lanes<T>(improvements.entry + improvements.size, place + (k << (2 * kBits)), lanes);
    place += W<T>;
  }
}

}  // namespace facenet::FACENET_ISA
