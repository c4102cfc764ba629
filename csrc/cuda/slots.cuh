// What a warp finds in the slots of its anchor.
#pragma once

#include "cuda/kernel_arguments.h"
#include "cuda/warp.cuh"
#include "semantics/order.h"

namespace facenet::cuda {

// The slot of the extreme positive, over one warp; -1 without one. Slots are in the caller's order.
template <class T>
__device__ int32_t extreme_slot(const T* d_ap, int32_t count, bool hardest) {
  T best = 0;
  int64_t best_slot = -1;
  for (int32_t k = lane(); k < count; k += 32) {
    const bool wins =
        hardest ? farther(d_ap[k], k, best, best_slot) : closer(d_ap[k], k, best, best_slot);
    if (wins) best = d_ap[k], best_slot = k;
  }
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const T d = __shfl_xor_sync(kAllLanes, best, apart);
    const int64_t slot = __shfl_xor_sync(kAllLanes, best_slot, apart);
    const bool wins = slot >= 0 && (hardest ? farther(d, slot, best, best_slot)
                                            : closer(d, slot, best, best_slot));
    if (wins) best = d, best_slot = slot;
  }
  return int32_t(best_slot);
}

}  // namespace facenet::cuda
