// The search for negatives: a pass over all pairs, by the pair stream.
#pragma once

#include "cuda/epilogues/extremum.cuh"
#include "cuda/epilogues/successor.cuh"
#include "cuda/selection.h"

namespace facenet::cuda {

// Fills the keys of `to` from all negatives: those of buckets, and the farthest's if the rule has
// that fallback.
void search(const Device& device, const Pairs<float>& pairs, const Slots& slots,
            int64_t most_thresholds, const TripletRule& rule, const SearchPlan& plan,
            const SearchArrays<float>& work, const SelectionArrays<float>& to);

// Its three forms.
void search_hardest(const Device& device, const Pairs<float>& pairs, const SearchPlan& plan,
                    const HardestEpilogue::Arguments& to);
void search_successor_few(const Device& device, const Pairs<float>& pairs, int64_t most_thresholds,
                          const SearchPlan& plan, const SuccessorArguments& to);
void search_successor_many(const Device& device, const Pairs<float>& pairs, const SearchPlan& plan,
                           const SuccessorArguments& to);

// The search for a random rule: gives each slot a choice, a bucket of its own.
template <class T>
void search_random(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                   const TripletRule& rule, const SearchArrays<T>& work,
                   const SelectionArrays<T>& to);

}  // namespace facenet::cuda
