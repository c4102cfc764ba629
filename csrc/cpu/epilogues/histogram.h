// histogram: how many pairs of one class, and how many others, lie in each column.
//
// A task counts into a set of counters that no other task uses at that time, so nothing is locked
// or shared. The sets are added up afterwards. The distances of embeddings fall into some hundred
// bins, whose counters stay in the L1 cache. If there are very many columns, all tasks share one
// set of atomic counters.
//
// Each task counts the gaps between windows by itself until it ends. Where windows are narrow,
// nearly all pairs lie in gaps, and most of them beyond all windows. The latter are counted a group
// of vectors at a time.
#pragma once

#include <limits>

#include "cpu/pair_stream.h"
#include "semantics/bins.h"

namespace facenet::FACENET_ISA {

template <class T>
class HistogramEpilogue {
 public:
  static constexpr Which kWhich = Which::kOnce;
  static constexpr bool kByCandidate = false;

  HistogramEpilogue(const Pairs<T>& pairs, const Histogram& to) : pairs_(pairs), to_(to) {
    const Bins& bins = to.bins;
    const int64_t end = bins.end(bins.windows - 1);
    if (end < int64_t(bits_of(beyond_))) beyond_ = value_of(Bits(end));
    is_dense_ = bins.windows == 1 && to.busy != nullptr;
  }

  // The stream copies its prototype once for each task. The copy takes a set of counters.
  HistogramEpilogue(const HistogramEpilogue& prototype)
      : pairs_(prototype.pairs_),
        to_(prototype.to_),
        beyond_(prototype.beyond_),
        is_dense_(prototype.is_dense_) {
    if (to_.busy != nullptr) {
      while (to_.busy[set_].exchange(true, std::memory_order_acquire)) set_ = (set_ + 1) % to_.sets;
    }
    counts_ = to_.counts + set_ * 2 * to_.bins.columns();
  }
  HistogramEpilogue& operator=(const HistogramEpilogue&) = delete;
  ~HistogramEpilogue() {
    if (counts_ == nullptr) return;  // this is the prototype, which counts nothing
    for (int gap = 0; gap <= to_.bins.windows; ++gap) {
      add(counts_ + to_.bins.gap(gap), gaps_[0][gap]);
      add(counts_ + to_.bins.columns() + to_.bins.gap(gap), gaps_[1][gap]);
    }
    if (to_.busy != nullptr) to_.busy[set_].store(false, std::memory_order_release);
  }

  void consume(const TileRanges<T, kWhich>& ranges) {
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      const int begin = int(std::clamp<int64_t>(pairs_.class_begin[anchor] - first, 0, count));
      const int end = int(std::clamp<int64_t>(pairs_.class_end[anchor] - first, 0, count));
      const auto count_kind = [&](const T* of, int pairs, int kind) {
        is_dense_ ? count_dense(of, pairs, kind) : count_sparse(of, pairs, kind);
      };
      count_kind(d, begin, 1);
      count_kind(d + begin, end - begin, 0);
      count_kind(d + end, count - end, 1);
    });
  }

 private:
  using Bits = decltype(bits_of(T()));

  void add(int64_t* counter, int64_t pairs) const {
    if (to_.busy != nullptr) {
      *counter += pairs;
    } else if (pairs != 0) {
      __atomic_fetch_add(counter, pairs, __ATOMIC_RELAXED);
    }
  }

  // kind: 0 of one class, 1 of two. column_of for a vector at a time, where there is one window and
  // the task has counters of its own.
  void count_dense(const T* d, int count, int kind) {
    using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    const auto all = [](int64_t value) { return Integer(value) - Index<T>{}; };
    int64_t* counts = counts_ + kind * to_.bins.columns();
    const Index<T> mask = all(std::numeric_limits<Integer>::max()), low = all(to_.bins.low[0]);
    const Index<T> bins = all(to_.bins.count), none = all(0);
    const Index<T> infinite = all(int64_t(bits_of(std::numeric_limits<T>::infinity())));
    for (int at = 0; at < count; at += W<T>) {
      const Vec<T> x = load(d + at);
      const Index<T> bits = (Index<T>)x & mask;
      Index<T> column = (bits - low) >> to_.bins.shift;
      column = column > bins ? bins : column;  // first, so that adding 1 below cannot overflow
      column = column < none ? none : column + 1;
      column = bits >= infinite ? bins + 2 : column;
      const int there = std::min(count - at, W<T>);
      for (int l = 0; l < there; ++l) ++counts[column[l]];
    }
  }

  void count_sparse(const T* d, int count, int kind) {
    constexpr int kStep = kGroup * W<T>;
    int64_t* counts = counts_ + kind * to_.bins.columns();
    const Vec<T> low = broadcast(beyond_), high = broadcast(std::numeric_limits<T>::max());
    for (int at = 0; at < count; at += kStep) {
      uint32_t level[kGroup];
#pragma GCC unroll 6
      for (int v = 0; v < kGroup; ++v) {
        const Vec<T> x = load(d + at + v * W<T>);
        level[v] = greater_equal(x, low) & greater_equal(high, x);
      }
      const uint64_t there = first_lanes(std::min(count - at, kStep));
      const uint64_t beyond = join<T>(level) & there;
      gaps_[kind][to_.bins.windows] += __builtin_popcountll(beyond);
      for (uint64_t rest = there & ~beyond; rest != 0; rest &= rest - 1) {
        const Column column = column_of(d[at + __builtin_ctzll(rest)], to_.bins);
        if (column.gap >= 0) {
          ++gaps_[kind][column.gap];
        } else {
          add(counts + column.number, 1);
        }
      }
    }
  }

  const Pairs<T>& pairs_;
  const Histogram& to_;
  T beyond_ =
      std::numeric_limits<T>::infinity();  // the last window's upper edge, if that is finite
  bool is_dense_ = false;
  int64_t gaps_[2][Bins::kMostWindows + 1] = {};
  int64_t set_ = 0;
  int64_t* counts_ = nullptr;
};

}  // namespace facenet::FACENET_ISA
