// distance_histogram on the CPU: the pair stream with the histogram epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

#include "common/labelled_operators.h"
#include "cpu/labelled_batch.h"
#include "cpu/parallel.h"

namespace facenet::cpu {
namespace {

// Up to this many columns each worker has counters of its own. A call has more if a bin holds a
// single number. Few pairs lie in such bins, so the workers share one set of counters, which is
// cleared and added up once.
constexpr int64_t kMostOfAWorker = int64_t(1) << 18;

// -> [2, windows * (bins + 1) + 2]
Tensor distance_histogram(const DistanceHistogramArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  const Bins& bins = arguments.bins;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch);
    const int64_t columns = 2 * bins.columns();
    Tensor out = torch::stable::new_empty(emb, {2, bins.columns()}, ScalarType::Long);
    auto* total = static_cast<int64_t*>(out.data_ptr());
    std::fill_n(total, columns, 0);
    if (bins.columns() > kMostOfAWorker) {
      kernels<T>().histogram(batch.set.pairs(), {bins, 1, nullptr, total});
      return out;
    }
    const int64_t sets = worker_count();
    Buffer<std::atomic<bool>> busy(sets);
    Buffer<int64_t> counts(sets * columns);
    std::fill_n(busy.data(), sets, false);
    std::fill_n(counts.data(), sets * columns, 0);
    kernels<T>().histogram(batch.set.pairs(), {bins, sets, busy.data(), counts.data()});
    for (int64_t set = 0; set < sets; ++set) {
      for (int64_t c = 0; c < columns; ++c) total[c] += counts[set * columns + c];
    }
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("distance_histogram", TORCH_BOX(&front::distance_histogram<distance_histogram>));
}

}  // namespace facenet::cpu
