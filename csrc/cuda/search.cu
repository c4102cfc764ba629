#include "cuda/epilogues/extremum.cuh"
#include "cuda/epilogues/successor_few.cuh"
#include "cuda/epilogues/successor_many.cuh"
#include "cuda/search.cuh"
#include "cuda/search.h"

namespace facenet::cuda {

void search(const Device& device, const Pairs<float>& pairs, const Slots& slots,
            int64_t most_thresholds, const SelectionRule& rule, const SearchPlan& plan,
            const SelectionArrays<float>& to) {
  const ExtremumArguments farthest{rule.fallback == Fallback::kFarthest ? to.farthest.key
                                                                        : nullptr};
  if (rule.negatives == NegativeRule::kHardest) {
    stream<HardestEpilogue>("search for the hardest negatives", device, pairs, plan,
                            {slots, {to.bucket.key}, farthest});
    return;
  }
  const SuccessorArguments arguments{slots, to.threshold_count, to.threshold, to.bucket.key,
                                     farthest};
  if (most_thresholds <= SuccessorFewEpilogue::kMost) {
    stream<SuccessorFewEpilogue>("search for successors of few", device, pairs, plan, arguments);
  } else {
    stream<SuccessorManyEpilogue>("search for successors of many", device, pairs, plan, arguments);
  }
}

}  // namespace facenet::cuda
