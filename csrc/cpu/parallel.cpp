#include "cpu/parallel.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

namespace facenet::cpu {

// Waking torch's pool costs some 5 microseconds: about a hundred thousand vector instructions.
constexpr double kWorkPerThread = 1e5;

int64_t worker_count() { return int64_t(torch::stable::get_num_threads()); }

void run_tasks(int64_t tasks, double work, void (*task)(void*, int64_t), void* context) {
  const double worthwhile = std::max(1.0, work / kWorkPerThread);
  const int64_t threads = worker_count();
  const int64_t workers =
      std::min({tasks, threads, worthwhile < 1e6 ? int64_t(worthwhile) : threads});
  if (workers <= 1) {
    for (int64_t i = 0; i < tasks; ++i) task(context, i);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(context, i);
  });
}

}  // namespace facenet::cpu
