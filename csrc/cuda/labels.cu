#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/labels.cuh"
#include "cuda/launch.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

// The labels of both sides, a row after the other.
struct BothLabels {
  const int64_t *first, *second;
  int64_t first_count, count;

  __device__ int64_t operator[](int64_t i) const {
    return i < first_count ? first[i] : second[i - first_count];
  }
};

// Open addressing: a label is in the first place from its own on that is free or has it already.
// All bytes are 0xff at first, so that the label -1 cannot be told from none. It has a place of its
// own, behind the others.
struct LabelTable {
  static constexpr int64_t kFree = -1;

  int64_t* label;   // [places]
  uint32_t* first;  // [places + 1] the first row of each
  uint32_t places;  // a power of two, more than rows

  // The finaliser of splitmix64: every bit of the label changes half of the place's.
  __device__ uint32_t own_place(int64_t label_) const {
    uint64_t x = uint64_t(label_);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return uint32_t(x ^ x >> 31) & (places - 1);
  }

  __device__ void enter(int64_t row, int64_t label_) const {
    uint32_t at = label_ == kFree ? places : own_place(label_);
    while (at < places) {
      int64_t there = load_relaxed(label + at);
      if (there == kFree) {
        there = int64_t(atomicCAS(reinterpret_cast<unsigned long long*>(label + at),
                                  (unsigned long long)(kFree), (unsigned long long)(label_)));
      }
      if (there == kFree || there == label_) break;
      at = (at + 1) & (places - 1);
    }
    if (uint32_t(row) < load_relaxed(first + at)) atomicMin(first + at, uint32_t(row));
  }

  // Once all rows have entered.
  __device__ uint32_t first_of(int64_t label_) const {
    uint32_t at = label_ == kFree ? places : own_place(label_);
    while (at < places && label[at] != label_) at = (at + 1) & (places - 1);
    return first[at];
  }
};

__global__ void __launch_bounds__(kBlock)
    enter_labels(const BothLabels labels, const LabelTable table) {
  const int64_t i = thread_number();
  if (i < labels.count) table.enter(i, labels[i]);
}

// keys, row [labels.count]: a side's rows are numbered from 0 on.
__global__ void __launch_bounds__(kBlock)
    find_keys(const BothLabels labels, const LabelTable table, uint32_t* keys, int32_t* row) {
  const int64_t i = thread_number();
  if (i >= labels.count) return;
  keys[i] = table.first_of(labels[i]);
  row[i] = int32_t(i < labels.first_count ? i : i - labels.first_count);
}

// of [count], among [n], both sorted -> begin, end [count]
__global__ void __launch_bounds__(kBlock, 2)
    class_ranges(const uint32_t* of, int32_t count, const uint32_t* among, int32_t n,
                 int32_t* begin, int32_t* end) {
  const int64_t i = thread_number();
  if (i >= count) return;
  begin[i] = count_below<false>(among, n, of[i]);
  end[i] = count_below<true>(among, n, of[i]);
}

// Sorted keys of anchors [M] and candidates [N] -> begin, end [M] and slots.
__global__ void __launch_bounds__(kBlock, 2)
    count_slots(const uint32_t* of, const uint32_t* among, int32_t candidates, bool self,
                int64_t bound, const ClassRanges classes, const SlotTable to) {
  const int64_t i = thread_number();
  if (i == 0 && to.anchors == 0) to.offset[0] = 0;
  if (i >= to.anchors) return;
  const int32_t begin = count_below<false>(among, candidates, of[i]);
  const int32_t end = count_below<true>(among, candidates, of[i]);
  classes.begin[i] = begin;
  classes.end[i] = end;
  write_slots(to, self, bound, candidates, int32_t(i), end - begin);
}

__global__ void total_slots(const int64_t* offset, int32_t anchors, ClassSizes* sizes) {
  sizes->slots = offset[anchors];
}

}  // namespace

void LabelOrder::place(Workspace& w) {
  order = w.take<int32_t>(count);
  keys = w.take<uint32_t>(count);
}

void ClassRanges::place(Workspace& w) {
  begin = w.take<int32_t>(count);
  end = w.take<int32_t>(count);
}

void SlotTable::place(Workspace& w) {
  offset = w.take<int64_t>(anchors + 1);
  count = w.take<int32_t>(anchors);
}

namespace {

// What sort_by_label needs for as long as it runs.
struct SortMemory {
  int64_t rows = 0;
  LabelTable table{};
  uint32_t* keys = nullptr;
  int32_t* row = nullptr;
  size_t table_bytes = 0;

  void place(Workspace& w) {
    table.places = 2;  // twice as many as rows and more, if 32 bits have room
    while (table.places <= rows) table.places *= 2;
    if (table.places < 1u << 31) table.places *= 2;
    table_bytes = table.places * sizeof(int64_t) + (table.places + 1) * sizeof(uint32_t);
    table.label = reinterpret_cast<int64_t*>(w.take<unsigned char>(int64_t(table_bytes)));
    table.first = reinterpret_cast<uint32_t*>(table.label + table.places);
    keys = w.take<uint32_t>(rows);
    row = w.take<int32_t>(rows);
  }
};

}  // namespace

void sort_by_label(const Device& device, const int64_t* labels, const LabelOrder& anchors,
                   const int64_t* ref_labels, const LabelOrder* candidates) {
  const int64_t others = candidates == nullptr ? 0 : candidates->count;
  const BothLabels both{labels, ref_labels, anchors.count, anchors.count + others};
  if (both.count == 0) return;
  const Sizes sizes{{"labels", both.count}};
  SortMemory needed;
  needed.rows = both.count;
  const Scratch<SortMemory> memory(device, needed);
  check_cuda(cudaMemsetAsync(memory.table.label, 0xff, memory.table_bytes, device.stream()),
             "clearing the table of labels");
  launch("enter_labels", sizes, device.stream(), {blocks_of_threads(both.count), kBlock},
         enter_labels, both, memory.table);
  launch("find_keys", sizes, device.stream(), {blocks_of_threads(both.count), kBlock}, find_keys,
         both, memory.table, memory.keys, memory.row);
  sort_by_key(device, anchors.count, both.count, memory.keys, anchors.keys, memory.row,
              anchors.order);
  if (candidates == nullptr) return;
  sort_by_key(device, others, both.count, memory.keys + anchors.count, candidates->keys,
              memory.row + anchors.count, candidates->order);
}

void find_classes(const Device& device, const LabelOrder& of, const LabelOrder& among,
                  const ClassRanges& to) {
  launch("class_ranges", {{"of", of.count}, {"among", among.count}}, device.stream(),
         {blocks_of_threads(of.count), kBlock}, class_ranges, of.keys, int32_t(of.count),
         among.keys, int32_t(among.count), to.begin, to.end);
}

void make_slots(const Device& device, const LabelOrder& of, const LabelOrder& among, bool self,
                int64_t bound, const ClassRanges& classes, const SlotTable& to) {
  const Sizes sizes{{"anchors", of.count}, {"candidates", among.count}};
  launch("count_slots", sizes, device.stream(), {blocks_of_threads(of.count + 1), kBlock},
         count_slots, of.keys, among.keys, int32_t(among.count), self, bound, classes, to);
}

ClassSizes add_up_slots(const Device& device, const SlotTable& slots) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(device.stream(), &capture), "looking for a capture");
  if (capture != cudaStreamCaptureStatusNone) {
    fail(
        "max_per_class: expected a bound on the rows of a class, for a CUDA graph is being "
        "captured and the classes cannot be counted meanwhile; got none");
  }
  add_up(device, slots.anchors + 1, slots.offset, slots.offset);
  launch("total_slots", {}, device.stream(), {1, 1}, total_slots, slots.offset,
         int32_t(slots.anchors), slots.sizes);
  ClassSizes sizes;
  check_cuda(
      cudaMemcpyAsync(&sizes, slots.sizes, sizeof sizes, cudaMemcpyDeviceToHost, device.stream()),
      "reading class sizes");
  check_cuda(cudaStreamSynchronize(device.stream()), "reading class sizes");
  return sizes;
}

}  // namespace facenet::cuda
