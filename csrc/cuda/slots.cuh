// Room for what belongs to pairs (anchor, positive): slot k of sorted anchor i is offset[i] + k.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace facenet::cuda {

struct Slots {
  const int64_t* offset;  // [M]
  const int32_t* count;   // [M] rows of the anchor's class; 0 where it takes no part
};

}  // namespace facenet::cuda
