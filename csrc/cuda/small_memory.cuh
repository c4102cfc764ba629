// What select_small takes, and what its blocks keep in shared memory.
#pragma once

#include "cuda/anchor_search.cuh"
#include "cuda/edges.h"
#include "cuda/interleaved.h"
#include "cuda/kernel_arguments.h"
#include "cuda/small_blocks.h"

namespace facenet::cuda {

constexpr int32_t kSlotsTogether = 4;  // that a lane of select_small looks at

// Of what a block keeps in shared memory.
struct SmallLayout {
  int32_t units;       // of a row: see interleaved.h
  int32_t pitch;       // candidates, filled up to what a warp looks at together
  int32_t slot_pitch;  // no anchor has more slots; whole kSlotsTogether
  int32_t room;        // for the thresholds of an anchor: a power of two, and more than there are
  int32_t push_cells;

  explicit SmallLayout(const SmallSizes& sizes)
      : units(units_of(sizes.dim)),
        pitch(0),
        slot_pitch((int32_t(sizes.most_slots) + kSlotsTogether - 1) / kSlotsTogether *
                   kSlotsTogether),
        room(AnchorSearch::kLeastRoom),
        push_cells(PushCell::cells_for(sizes.candidates)) {
    constexpr int32_t kColumns = AnchorSearch::kQuadColumns;
    pitch = (sizes.candidates + kColumns - 1) / kColumns * kColumns;
    while (room <= sizes.most_slots) room *= 2;
  }
};

struct SmallBatch {
  Pairs<float> pairs;
  Slots slots;
  const float4 *anchors, *candidates;  // interleaved
  const int32_t* unfit;                // see SmallSearch
  SmallLayout layout;
};

// A block's shared memory; [i] is that of anchor i.
struct SmallMemory {
  float4* anchors;               // [units][anchors]
  uint64_t* keys;                // [slot_pitch + 1] each, with the distance above; then edges
  float* distances;              // [pitch] each
  uint32_t* rows;                // [pitch] of the candidates
  SharedBucket::Words* buckets;  // [room] each: see AnchorSearch
  float* positives;              // [slot_pitch] each
  float* slopes;                 // [slot_pitch] each
  int32_t* choices;              // [slot_pitch] each
  int32_t* winning;              // [slot_pitch] each
  PushCell* pushes;              // [push_cells]: see PushTable
  int64_t bytes;

  __host__ __device__ SmallMemory(unsigned char* begin, const SmallLayout& layout, int anchors_) {
    unsigned char* next = begin;
    const int64_t slots = int64_t(anchors_) * layout.slot_pitch;
    anchors = take<float4>(next, int64_t(layout.units) * anchors_);
    keys = take<uint64_t>(next, slots + anchors_);  // an even number: what follows is aligned
    distances = take<float>(next, int64_t(anchors_) * layout.pitch);
    rows = take<uint32_t>(next, layout.pitch);
    buckets = take<SharedBucket::Words>(next, int64_t(anchors_) * layout.room);
    positives = take<float>(next, slots);
    slopes = take<float>(next, slots);
    choices = take<int32_t>(next, slots);
    winning = take<int32_t>(next, slots);
    pushes = take<PushCell>(next, layout.push_cells);
    bytes = next - begin;
  }

 private:
  template <class Value>
  static __host__ __device__ Value* take(unsigned char*& next, int64_t count) {
    Value* const array = reinterpret_cast<Value*>(next);
    next += count * int64_t(sizeof(Value));
    return array;
  }
};

}  // namespace facenet::cuda
