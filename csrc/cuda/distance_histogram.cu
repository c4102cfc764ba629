// distance_histogram on CUDA: the pair stream with the histogram epilogue.
#include "cuda/distance_histogram.h"
#include "cuda/epilogues/histogram.cuh"
#include "cuda/search.cuh"

namespace facenet::cuda {

template <class T>
void count_distances(const Device& device, const Pairs<T>& pairs, const HistogramArguments& to) {
  stream_by_differences<T, HistogramEpilogue<T>>("histogram of distances", device, pairs, to,
                                                 Guard{}, pairs.self);
}

template void count_distances(const Device&, const Pairs<float>&, const HistogramArguments&);
template void count_distances(const Device&, const Pairs<double>&, const HistogramArguments&);

}  // namespace facenet::cuda
