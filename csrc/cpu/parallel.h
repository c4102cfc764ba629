// Tasks on torch's thread pool.
//
// Workers draw tasks from one counter, so uneven tasks balance. A task may run on any thread, in
// any order: nothing that a task writes may depend on that.
#pragma once

#include <cstdint>
#include <type_traits>

namespace facenet::cpu {

// Calls `task(context, i)` for each i in [0, tasks). `work` is a rough count of arithmetic
// instructions: below what pays for waking a thread, everything runs on the calling one.
void run_tasks(int64_t tasks, double work, void (*task)(void*, int64_t), void* context);

// How many threads may run tasks at once.
int64_t worker_count();

template <class F>
void parallel_tasks(int64_t tasks, double work, F&& f) {
  using Function = std::remove_reference_t<F>;
  run_tasks(
      tasks, work, [](void* context, int64_t i) { (*static_cast<Function*>(context))(i); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// Calls f(begin, end) for ranges that cover [0, rows), each of at most `grain` rows.
template <class F>
void parallel_rows(int64_t rows, int64_t grain, double work, F&& f) {
  parallel_tasks((rows + grain - 1) / grain, work, [&](int64_t i) {
    const int64_t begin = i * grain;
    f(begin, begin + grain < rows ? begin + grain : rows);
  });
}

}  // namespace facenet::cpu
