// What a kernel writes of an anchor once it knows the anchor's class among the candidates.
#pragma once

#include "cuda/labels.h"
#include "cuda/ptx.cuh"

namespace facenet::cuda {

// By one thread. With a bound every anchor's slots lie `bound` apart. Without one, offset[position]
// becomes the number of the anchor's slots: a term of the sum that it will be. Returns whether the
// class is larger than the bound; the sizes are told if they shall be.
__device__ inline bool write_slots(const SlotTable& to, bool self, int64_t bound,
                                   int32_t candidates, int32_t position, int32_t class_size,
                                   bool tell = true) {
  int32_t size = class_size <= int32_t(self) || class_size == candidates ? 0 : class_size;
  const bool over = bound > 0 && size > bound;
  if (over) {
    if (tell) atomicExch(&to.sizes->over_the_bound, 1);
    size = 0;
  }
  to.count[position] = size;
  to.offset[position] = bound > 0 ? bound * position : size;
  if (position + 1 == to.anchors) to.offset[to.anchors] = bound > 0 ? bound * to.anchors : 0;
  if (bound == 0 && size > load_relaxed(&to.sizes->largest)) atomicMax(&to.sizes->largest, size);
  return over;
}

}  // namespace facenet::cuda
