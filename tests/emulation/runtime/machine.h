// The emulated device of one thread of the system: a block of threads, which take turns.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "block_race.h"
#include "context.h"
#include "emulation/device_api.h"
#include "emulation/threads.h"
#include "race.h"
#include "region.h"

namespace facenet::emulation {

constexpr int kLanes = 32;
constexpr int kMaxThreads = 1024;

enum class State : uint8_t { kReady, kAtBarrier, kInCollective, kExited };

struct Copy {  // one cp.async
  void* shared;
  const void* global;
  int bytes;
};

struct Thread {
  Context context;
  uint3 index;
  uint16_t id;  // in the block; its lane is id % 32
  State state;
  const void* where;  // the caller of the barrier or collective it waits in
  const char* waits_in;
  // The collective it waits in: its participants, and what completes it once all are there.
  uint32_t mask;
  void* argument;
  void (*complete)(void* const* arguments, uint32_t mask);
  // Copies under way, by group, the oldest first; the last group is open.
  std::vector<std::vector<Copy>> copies;
};

// What a launch runs.
struct Work {
  const void* kernel;
  void (*body)(void*);
  void* argument;
};

class Machine {
 public:
  static Machine& of_this_thread();
  // Null outside of a launch.
  static Machine* running();

  void begin_launch(int capability) { capability_ = capability; }
  // Runs one block; throws std::runtime_error with a report where it faults.
  void run_block(const Work& work, uint3 block, dim3 threads, uint64_t order);

  int barrier(BarrierKind kind, bool predicate, const void* where);
  void yield();
  void collective(const char* name, uint32_t mask, void* argument,
                  void (*complete)(void* const* arguments, uint32_t mask), const void* where,
                  bool orders_memory = false);
  [[noreturn]] void fault(const std::string& what);

  // A line that says who is running, for reports.
  std::string describe_running() const;

  Thread& current() { return *current_; }
  uint32_t lane() const { return current_->id % kLanes; }
  uint32_t thread_count() const { return count_; }
  int capability() const { return capability_; }
  SharedRegion& region() { return region_; }
  RaceDetector& races() { return races_; }
  BlockRaceDetector& block_races() { return block_races_; }
  // Whether it is a local variable of some thread.
  bool on_a_stack(const void* address) const { return stacks_.contains(address); }

 private:
  static void enter(void* thread);
  void make_ready(Thread& thread, bool soon);
  void release_barrier();
  void switch_to_next(bool forever = false);
  [[noreturn]] void exit_thread();
  std::string describe_waiting() const;
  uint64_t random();

  std::unique_ptr<Thread[]> threads_{new Thread[kMaxThreads]};
  Stacks stacks_;
  Context launcher_;
  SharedRegion region_;
  RaceDetector races_;
  BlockRaceDetector block_races_;

  Work work_ = {};
  int capability_ = 0;  // of the device, as the last launch found it
  uint32_t count_ = 0;  // threads of the block
  Thread* current_ = nullptr;
  // A ring of the threads that can run: its size is a power of two above any number of threads.
  uint16_t ready_[2 * kMaxThreads];
  uint32_t ready_begin_ = 0, ready_end_ = 0;
  uint32_t at_barrier_ = 0, exited_ = 0;
  BarrierKind barrier_kind_ = BarrierKind::kSync;
  int barrier_votes_ = 0, barrier_result_ = 0;
  uint64_t random_state_ = 1;
  uint64_t idle_yields_ = 0;
  std::string failure_;
  bool abandoned_ = false;
};

}  // namespace facenet::emulation
