// Which pairs select_small serves: its blocks keep all distances of their anchors in shared memory.
#pragma once

#include "cuda/device.h"

namespace facenet::cuda {

struct SmallSizes {
  int32_t anchors, candidates, dim;
  int64_t most_slots;  // no anchor has more
};

// How many anchors a block has, which is the `anchors` of their PushTable; 0: select_small suits
// only fewer pairs or fewer slots.
int anchors_of_small_blocks(const Device& device, const SmallSizes& sizes);

}  // namespace facenet::cuda
