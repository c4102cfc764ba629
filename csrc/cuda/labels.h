// Rows in the order of their labels, each anchor's class among the candidates, and its slots.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_arguments.h"
#include "cuda/workspace.h"

namespace facenet::cuda {

// One side's rows, those of a label together, stable.
struct LabelOrder {
  int64_t count = 0;
  int32_t* order = nullptr;  // [count] the caller's row of each sorted position
  // [count] ascending. Rows of a label have one key, on both sides: the first row of the label.
  uint32_t* keys = nullptr;

  void place(Workspace& w);
};

// Where the class of each of one side's rows lies on the other side: sorted positions, [count].
struct ClassRanges {
  int64_t count = 0;
  int32_t* begin = nullptr;
  int32_t* end = nullptr;

  void place(Workspace& w);
};

// What the host reads of a batch, in one copy.
struct ClassSizes {
  int64_t slots;           // in all
  int32_t largest;         // the most slots of an anchor; with a bound not known
  int32_t over_the_bound;  // 1: some class has more rows than max_per_class
};

struct SlotTable {
  int64_t anchors = 0;
  int64_t* offset = nullptr;    // [M + 1]
  int32_t* count = nullptr;     // [M]
  ClassSizes* sizes = nullptr;  // on the device

  void place(Workspace& w);  // all but the sizes
  Slots view() const { return {offset, count}; }
};

// labels [anchors.count], ref_labels [candidates->count]; both null: the anchors are the
// candidates. A hash table finds the first row of each label. To sort by its number takes two
// passes of a radix sort up to 2^16 rows, and by a label of 64 bits eight.
void sort_by_label(const Device& device, const int64_t* labels, const LabelOrder& anchors,
                   const int64_t* ref_labels, const LabelOrder* candidates);

void find_classes(const Device& device, const LabelOrder& of, const LabelOrder& among,
                  const ClassRanges& to);

// Finds the anchors' classes and makes slots for every anchor that has a positive and a negative.
// With a bound every anchor gets `bound` slots, so the host need not synchronise to read a sum. The
// anchors of a larger class get none, and to.sizes records that there is one. It is zero at first.
// Without a bound the offsets are not there until add_up_slots.
void make_slots(const Device& device, const LabelOrder& of, const LabelOrder& among, bool self,
                int64_t bound, const ClassRanges& classes, const SlotTable& to);

// The offsets, and what they come to. Synchronises with the device: the only time that a call
// without a bound does.
ClassSizes add_up_slots(const Device& device, const SlotTable& slots);

}  // namespace facenet::cuda
