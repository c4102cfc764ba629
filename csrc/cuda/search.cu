#include "cuda/epilogues/extremum.cuh"
#include "cuda/epilogues/successor_few.cuh"
#include "cuda/search.h"

namespace facenet::cuda {

void search(const Device& device, const Pairs<float>& pairs, const Slots& slots,
            int64_t most_thresholds, const TripletRule& rule, const SearchPlan& plan,
            const SearchArrays<float>& work, const SelectionArrays<float>& to) {
  const ExtremumArguments farthest{rule.fallback == Fallback::kFarthest ? to.farthest.key
                                                                        : nullptr};
  if (rule.negatives == NegativeRule::kHardest) {
    search_hardest(device, pairs, plan, {slots, {to.bucket.key}, farthest});
    return;
  }
  const SuccessorArguments arguments{slots,
                                     to.bucket_count,
                                     work.threshold,
                                     to.bucket.key,
                                     farthest,
                                     work.decided_key,
                                     device.limits().most_waiting,
                                     plan.anchors.terms,
                                     &plan.flags->largest_square,
                                     plan.rounding};
  if (most_thresholds <= kMostFew) {
    search_successor_few(device, pairs, most_thresholds, plan, arguments);
  } else {
    search_successor_many(device, pairs, plan, arguments);
  }
}

}  // namespace facenet::cuda
