// The search with HardestEpilogue: one file for each epilogue, so that they compile side by side.
#include "cuda/epilogues/extremum.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

void search_hardest(const Device& device, const Pairs<float>& pairs, const SearchPlan& plan,
                    const HardestEpilogue::Arguments& to) {
  stream<HardestEpilogue>("search for the hardest negatives", device, pairs, plan, to);
}

}  // namespace facenet::cuda
