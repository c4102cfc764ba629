// The search with SuccessorManyEpilogue: one file for each epilogue, so that they compile side by
// side.
#include "cuda/epilogues/successor_many.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

void search_successor_many(const Device& device, const Pairs<float>& pairs, const SearchPlan& plan,
                           const SuccessorManyEpilogue::Arguments& to) {
  stream<SuccessorManyEpilogue>("search for successors of many", device, pairs, plan, to);
}

}  // namespace facenet::cuda
