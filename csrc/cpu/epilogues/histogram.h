// histogram: how many pairs of one class, and how many others, lie in each bin.
//
// A task counts into a set of counters that no other task has meanwhile, so that nothing is locked
// or shared; the sets are added up afterwards. Distances of a range of embeddings fall into some
// hundred bins, whose counters stay in the L1 cache.
#pragma once

#include "cpu/pair_stream.h"
#include "semantics/bins.h"

namespace facenet::FACENET_ISA {

template <class T>
class HistogramEpilogue {
 public:
  static constexpr Which kWhich = Which::kOnce;

  HistogramEpilogue(const Pairs<T>& pairs, const Histogram& to) : pairs_(pairs), to_(to) {}

  // The stream copies its prototype once for each task: the copy takes a set.
  HistogramEpilogue(const HistogramEpilogue& prototype)
      : pairs_(prototype.pairs_), to_(prototype.to_) {
    while (to_.busy[set_].exchange(true, std::memory_order_acquire)) set_ = (set_ + 1) % to_.sets;
    counts_ = to_.counts + set_ * 2 * to_.bins.columns();
  }
  HistogramEpilogue& operator=(const HistogramEpilogue&) = delete;
  ~HistogramEpilogue() {
    if (counts_ != nullptr) to_.busy[set_].store(false, std::memory_order_release);
  }

  void consume(const TileRanges<T, kWhich>& ranges) {
    int64_t* same = counts_;
    int64_t* different = counts_ + to_.bins.columns();
    ranges.for_each([&](int64_t anchor, int64_t first, int count, const T* d) {
      const int begin = int(std::clamp<int64_t>(pairs_.class_begin[anchor] - first, 0, count));
      const int end = int(std::clamp<int64_t>(pairs_.class_end[anchor] - first, 0, count));
      count_range(d, begin, different);
      count_range(d + begin, end - begin, same);
      count_range(d + end, count - end, different);
    });
  }

 private:
  void count_range(const T* d, int count, int64_t* counts) const {
    for (int l = 0; l < count; ++l) ++counts[bin_column(d[l], to_.bins)];
  }

  const Pairs<T>& pairs_;
  const Histogram& to_;
  int64_t set_ = 0;
  int64_t* counts_ = nullptr;
};

}  // namespace facenet::FACENET_ISA
