// The search with SuccessorFewEpilogue: one file for each epilogue, so that they compile side by
// side.
#include "cuda/epilogues/successor_few.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

// By products an instance for three thresholds, as classes of four have them, takes a tenth less
// time than that for four, as csrc/README.md predicts.
void search_successor_few(const Device& device, const Pairs<float>& pairs, int64_t most_thresholds,
                          const SearchPlan& plan, const SuccessorArguments& to) {
  const char* const name = "search for successors of few";
  if (most_thresholds <= 3) {
    stream<SuccessorFewEpilogue<3>, SuccessorFewEpilogue<4>>(name, device, pairs, plan, to);
  } else {
    stream<SuccessorFewEpilogue<4>>(name, device, pairs, plan, to);
  }
}

}  // namespace facenet::cuda
