// distance_histogram on the CPU: the pair stream with the histogram epilogue.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

#include "common/histogram_arguments.h"
#include "cpu/labelled_batch.h"
#include "cpu/parallel.h"

namespace facenet::cpu {
namespace {

// Columns that each worker has counters of its own for. More are those of windows of single
// numbers, where few pairs lie: there the workers share counters, which need not be cleared and
// added up for each of them.
constexpr int64_t kMostOfAWorker = int64_t(1) << 18;

// -> [2, windows * (bins + 1) + 2]
Tensor distance_histogram(const Tensor& emb, const Tensor& labels,
                          const std::optional<Tensor>& ref_emb,
                          const std::optional<Tensor>& ref_labels, const std::string& distance,
                          const std::vector<int64_t>& low, int64_t shift, int64_t bins) {
  const std::optional<Tensor> none;
  const BatchArguments batch{
      emb, labels, ref_emb, ref_labels, none, none, parse_distance(distance)};
  batch.check();
  const Bins checked = check_bins(emb.scalar_type(), low, shift, bins);
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const LabelledBatch<T> sorted(batch);
    const int64_t columns = 2 * checked.columns();
    Tensor out = torch::stable::new_empty(emb, {2, checked.columns()}, ScalarType::Long);
    auto* total = static_cast<int64_t*>(out.data_ptr());
    std::fill_n(total, columns, 0);
    if (checked.columns() > kMostOfAWorker) {
      kernels<T>().histogram(sorted.set.pairs(), {checked, 1, nullptr, total});
      return out;
    }
    const int64_t sets = worker_count();
    Buffer<std::atomic<bool>> busy(sets);
    Buffer<int64_t> counts(sets * columns);
    std::fill_n(busy.data(), sets, false);
    std::fill_n(counts.data(), sets * columns, 0);
    kernels<T>().histogram(sorted.set.pairs(), {checked, sets, busy.data(), counts.data()});
    for (int64_t set = 0; set < sets; ++set) {
      for (int64_t c = 0; c < columns; ++c) total[c] += counts[set * columns + c];
    }
    return out;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("distance_histogram", TORCH_BOX(&distance_histogram));
}

}  // namespace facenet::cpu
