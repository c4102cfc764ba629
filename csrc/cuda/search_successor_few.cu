// The search with SuccessorFewEpilogue: one file for each epilogue, so that they compile side by
// side.
#include "cuda/epilogues/successor_few.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

void search_successor_few(const Device& device, const Pairs<float>& pairs, const SearchPlan& plan,
                          const SuccessorFewEpilogue::Arguments& to) {
  stream<SuccessorFewEpilogue>("search for successors of few", device, pairs, plan, to);
}

}  // namespace facenet::cuda
