// pairs_within on CUDA: the pair stream with the within epilogue.
#include "cuda/epilogues/within.cuh"
#include "cuda/pairs_within.h"
#include "cuda/search.cuh"

namespace facenet::cuda {

template <class T>
void find_pairs_within(const Device& device, const Pairs<T>& pairs, const WithinArguments<T>& to) {
  stream_by_differences<T, WithinEpilogue<T>>("pairs within a radius", device, pairs, to, Guard{},
                                              pairs.self);
}

template void find_pairs_within(const Device&, const Pairs<float>&, const WithinArguments<float>&);
template void find_pairs_within(const Device&, const Pairs<double>&,
                                const WithinArguments<double>&);

}  // namespace facenet::cuda
