// Selects triplets: thresholds, the search, fallbacks. Everything stays on the device.
#pragma once

#include "common/rules.h"
#include "cuda/device.h"
#include "cuda/kernel_arguments.h"
#include "cuda/prepare.h"
#include "cuda/rounding.h"
#include "cuda/workspace.h"
#include "semantics/key.h"

namespace facenet::cuda {

template <class T>
class LabelledBatch;
template <class T>
struct SmallLosses;

// The choices of a slot that are no bucket of its anchor.
constexpr int32_t kNotSelected = -1;  // no positive, or its negative does not qualify
constexpr int32_t kFarthest = -2;

// The closest or farthest candidates so far. For float one key holds distance and index, for double
// two words do.
template <class T>
struct Winners {
  uint64_t* key;    // kNoKey: none
  uint32_t* index;  // double only

  __device__ Winners behind(int64_t at) const {
    return {key + at, sizeof(T) == 4 ? nullptr : index + at};
  }
  __device__ bool has(int64_t at) const { return key[at] != kNoKey; }
  __device__ uint32_t row(int64_t at) const {
    return sizeof(T) == 4 ? key_index(key[at]) : index[at];
  }
  __device__ T closer_distance(int64_t at) const {
    if constexpr (sizeof(T) == 4) return closer_key_distance(key[at]);
    return value_of(key[at]);
  }
  __device__ T farther_distance(int64_t at) const {
    if constexpr (sizeof(T) == 4) return farther_key_distance(key[at]);
    return farther_word_distance(key[at]);
  }
};

// What the search for negatives works on. Nothing needs it once every slot has its choice.
// [slots] unless said.
template <class T>
struct SearchArrays {
  int64_t anchors = 0;
  int64_t slots = 0;
  bool random = false, by_products = false;

  // Of rules that are not random. A bucket has the slot of its
  // threshold's rank.
  T* threshold = nullptr;             // ascending within an anchor
  int32_t* winning_bucket = nullptr;  // the bucket of the closest winner from each bucket on
  int32_t* to_repeat = nullptr;       // [M] anchors whose search has to be repeated, in any order
  int32_t* repeat_count = nullptr;    // [1]
  uint64_t* decided_key = nullptr;    // where distances come from products: see UndecidedQueue

  // Of random rules: see semantics/random.h.
  uint32_t* positive_word = nullptr;
  uint64_t* drawn = nullptr;  // the smallest key of priority and row so far

  void place(Workspace& w);
};

// What was selected. [slots] unless said.
template <class T>
struct SelectionArrays {
  int64_t anchors = 0;
  int64_t slots = 0;
  T* d_ap = nullptr;                // NaN: not a pair
  int32_t* choice = nullptr;        // a bucket of the anchor, kNotSelected or kFarthest; before
                                    // that, the rank of the slot's threshold
  int32_t* bucket_count = nullptr;  // [M] buckets of the anchor: its first slots
  Winners<T> bucket{};              // the closest negative of each bucket
  Winners<T> farthest{};            // [M] the farthest negative

  void place(Workspace& w);

  __device__ bool selected(int64_t slot) const { return choice[slot] != kNotSelected; }
  __device__ uint32_t negative(int32_t anchor, int64_t offset, int64_t slot) const {
    return choice[slot] == kFarthest ? farthest.row(anchor) : bucket.row(offset + choice[slot]);
  }
  __device__ T d_an(int32_t anchor, int64_t offset, int64_t slot) const {
    return choice[slot] == kFarthest ? farthest.farther_distance(anchor)
                                     : bucket.closer_distance(offset + choice[slot]);
  }
};

// How the pairs of a call are searched.
struct SearchPlan {
  bool by_products = false;  // MmaLoop, where the flags do not ask for differences
  const RowFlags* flags = nullptr;
  PackedRows anchors{}, candidates{};
  SearchRounding rounding;
};

// The triplets of a batch by a rule: launches the kernels that select them, and owns their arrays.
// Destroyed, it gives the memory back to torch; kernels that are under way still have it.
template <class T>
class Selection {
 public:
  // With `losses` select_small serves, which finds them and fills no arrays.
  Selection(const LabelledBatch<T>& batch, const TripletRule& rule,
            const SmallLosses<T>* losses = nullptr);

  const SelectionArrays<T>& arrays() const { return arrays_; }

 private:
  const Scratch<SelectionArrays<T>> arrays_;
};

// How many anchors the blocks of select_small have, if that kernel serves; else 0.
template <class T>
int small_blocks(const LabelledBatch<T>& batch, const TripletRule& rule);

}  // namespace facenet::cuda
