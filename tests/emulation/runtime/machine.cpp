#include "machine.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "report.h"
#include "settings.h"

__thread uint3 threadIdx = {};
__thread uint3 blockIdx = {};
__thread uint3 blockDim = {};
__thread uint3 gridDim = {};

namespace facenet::emulation {
namespace {

thread_local std::unique_ptr<Machine> t_machine;
__thread __attribute__((tls_model("initial-exec"))) Machine* t_running = nullptr;

// Threads that only yield to each other, this often in a row, wait for another block.
constexpr uint64_t kIdleYields = 1 << 22;

constexpr const char* kBarrierNames[] = {"__syncthreads", "__syncthreads_count",
                                         "__syncthreads_and", "__syncthreads_or"};

std::string text_of(const uint3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

}  // namespace

Machine& Machine::of_this_thread() {
  if (t_machine == nullptr) t_machine.reset(new Machine);
  return *t_machine;
}

Machine* Machine::running() { return t_running; }

uint64_t Machine::random() {
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

void Machine::run_block(const Work& work, uint3 block, dim3 shape, uint64_t order) {
  work_ = work;
  count_ = shape.x * shape.y * shape.z;
  stacks_.reserve(count_);
  random_state_ = order | 1;
  ready_begin_ = ready_end_ = at_barrier_ = exited_ = 0;
  idle_yields_ = 0;
  failure_.clear();
  blockIdx = block;
  blockDim = shape;
  region_.poison();
  if (race_detection()) {
    races_.begin_block(count_);
    block_races_.begin_block(block.x + gridDim.x * (block.y + gridDim.y * block.z), count_);
  }

  for (uint32_t i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
    thread.id = uint16_t(i);
    thread.index = {i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
    thread.copies.clear();
    thread.context.prepare(stacks_[i], i, &Machine::enter, &thread);
  }
  // In the one half of all blocks warps start one by one, in the other their lanes mix.
  const uint32_t group = random() >> 32 & 1 ? std::min(count_, uint32_t(kLanes)) : count_;
  const uint32_t first = uint32_t(random() >> 32) % count_;
  for (uint32_t i = 0; i < count_; i += group) {
    const uint32_t size = std::min(group, count_ - i);
    const uint32_t start = uint32_t(random() >> 32) % size;
    for (uint32_t k = 0; k < size; ++k)
      make_ready(threads_[(i + (start + k) % size + first) % count_], (k & 1) != 0);
  }

  t_running = this;
  current_ = &threads_[ready_[ready_begin_++ % std::size(ready_)]];
  threadIdx = current_->index;
  current_->context.switch_from(launcher_);
  t_running = nullptr;
  if (!failure_.empty()) {
    stacks_.clear_poison();
    throw std::runtime_error(failure_);
  }
}

void Machine::enter(void* thread) {
  Machine& self = *t_running;
  static_cast<void>(thread);
  self.work_.body(self.work_.argument);
  self.exit_thread();
}

void Machine::make_ready(Thread& thread, bool soon) {
  thread.state = State::kReady;
  if (soon)
    ready_[--ready_begin_ % std::size(ready_)] = thread.id;
  else
    ready_[ready_end_++ % std::size(ready_)] = thread.id;
}

void Machine::switch_to_next(bool forever) {
  if (ready_begin_ == ready_end_) fault("deadlock, no thread can go on: " + describe_waiting());
  Thread& last = *current_;
  Thread& next = threads_[ready_[ready_begin_++ % std::size(ready_)]];
  if (&next == &last) return;
  current_ = &next;
  threadIdx = next.index;
  next.context.switch_from(last.context, forever);
}

void Machine::exit_thread() {
  idle_yields_ = 0;
  current_->state = State::kExited;
  ++exited_;
  if (exited_ == count_) launcher_.switch_from(current_->context, true);
  // A thread that has exited is not waited for.
  if (at_barrier_ != 0 && at_barrier_ + exited_ == count_) release_barrier();
  switch_to_next(true);
  __builtin_unreachable();
}

void Machine::fault(const std::string& what) {
  failure_ = what + "; " + describe_running();
  launcher_.switch_from(current_->context, true);
  __builtin_unreachable();
}

void Machine::yield() {
  if (++idle_yields_ > kIdleYields)
    fault(
        "livelock, threads only wait (blocks run one after the other: none may wait for a later "
        "one)");
  make_ready(*current_, false);
  switch_to_next();
}

int Machine::barrier(BarrierKind kind, bool predicate, const void* where) {
  current_->state = State::kAtBarrier;
  current_->waits_in = kBarrierNames[int(kind)];
  current_->where = where;
  if (at_barrier_ == 0) {
    barrier_kind_ = kind;
    barrier_votes_ = 0;
  } else if (barrier_kind_ != kind) {
    fault("divergent barrier: " + describe_waiting());
  }
  barrier_votes_ += predicate;
  ++at_barrier_;
  if (at_barrier_ + exited_ == count_) release_barrier();
  switch_to_next();
  // The next barrier cannot be complete before this thread arrives there.
  return barrier_result_;
}

void Machine::release_barrier() {
  idle_yields_ = 0;
  barrier_result_ = barrier_kind_ == BarrierKind::kCount ? barrier_votes_
                    : barrier_kind_ == BarrierKind::kAnd ? barrier_votes_ == int(at_barrier_)
                                                         : barrier_votes_ != 0;
  at_barrier_ = 0;
  if (race_detection()) races_.block_barrier();
  // Every order comes up: a multiple of an odd number, and of one that has no factor in common.
  uint32_t stride = uint32_t(random() >> 40) % count_ | 1;
  while (std::gcd(stride, count_) != 1) ++stride;
  uint32_t thread = uint32_t(random() >> 40) % count_;
  for (uint32_t i = 0; i < count_; ++i) {
    if (threads_[thread].state == State::kAtBarrier) make_ready(threads_[thread], false);
    thread = (thread + stride) % count_;
  }
}

void Machine::collective(const char* name, uint32_t mask, void* argument,
                         void (*complete)(void* const* arguments, uint32_t mask), const void* where,
                         bool orders_memory) {
  Thread& self = *current_;
  self.state = State::kInCollective;
  self.waits_in = name;
  self.where = where;
  self.mask = mask;
  self.argument = argument;
  self.complete = complete;
  const uint32_t base = self.id / kLanes * kLanes;
  const uint32_t lanes = std::min(uint32_t(kLanes), count_ - base);
  const uint32_t existing = lanes == 32 ? ~0u : (1u << lanes) - 1;
  if ((mask >> (self.id - base) & 1) == 0)
    fault(std::string(name) + " at " + source_line(where) +
          ": its mask leaves out the lane itself");
  if ((mask & ~existing) != 0)
    fault(std::string(name) + " at " + source_line(where) + ": its mask names lanes that the " +
          "block does not have");

  void* arguments[kLanes];
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    const Thread& other = threads_[base + lane];
    if (other.state != State::kInCollective || other.complete != complete || other.mask != mask ||
        other.waits_in != name) {
      switch_to_next();
      return;
    }
    arguments[lane] = other.argument;
  }
  complete(arguments, mask);
  idle_yields_ = 0;
  if (orders_memory && race_detection()) races_.sync_warp(base / kLanes, mask);
  const uint64_t order = random();
  const uint32_t start = order >> 32 & 31, stride = (order >> 40 & 31) | 1;
  for (uint32_t i = 0; i < kLanes; ++i) {
    const uint32_t lane = (start + i * stride) % kLanes;
    if ((mask >> lane & 1) != 0) make_ready(threads_[base + lane], (order >> 50 & 1) != 0);
  }
  switch_to_next();
}

std::string Machine::describe_running() const {
  return "in kernel " + function_name(work_.kernel) + ", block " + text_of(blockIdx) + " of " +
         text_of(gridDim) + ", thread " + text_of(current_->index) + " of " + text_of(blockDim) +
         " (number " + std::to_string(current_->id) + ": warp " +
         std::to_string(current_->id / kLanes) + ", lane " + std::to_string(current_->id % kLanes) +
         ")";
}

std::string Machine::describe_waiting() const {
  const auto text = [this](const Thread& thread) -> std::string {
    if (thread.state == State::kExited) return "have exited";
    if (thread.state == State::kReady) return "can go on";
    std::string what = std::string("wait in ") + thread.waits_in;
    char mask[32];
    if (thread.state == State::kInCollective) {
      std::snprintf(mask, sizeof mask, " (mask 0x%08x)", thread.mask);
      what += mask;
    }
    return what + " at " + source_line(thread.where);
  };
  const auto same = [](const Thread& a, const Thread& b) {
    return a.state == b.state && (a.state == State::kExited || a.state == State::kReady ||
                                  (a.where == b.where && a.waits_in == b.waits_in &&
                                   (a.state != State::kInCollective || a.mask == b.mask)));
  };
  // One entry for all threads in the same place, with the ranges of their numbers.
  std::vector<std::pair<const Thread*, std::string>> places;
  for (uint32_t begin = 0, end; begin < count_; begin = end) {
    for (end = begin + 1; end < count_ && same(threads_[begin], threads_[end]);) ++end;
    std::string range = std::to_string(begin);
    if (end - begin > 1) range += "-" + std::to_string(end - 1);
    const auto place = std::find_if(places.begin(), places.end(), [&](const auto& known) {
      return same(*known.first, threads_[begin]);
    });
    if (place == places.end())
      places.emplace_back(&threads_[begin], range);
    else
      place->second += " " + range;
  }
  std::string result;
  for (const auto& [thread, ranges] : places) {
    constexpr size_t kMostText = 100;
    result += (result.empty() ? "threads " : ", threads ");
    result += ranges.size() > kMostText ? ranges.substr(0, kMostText) + "..." : ranges;
    result += " " + text(*thread);
  }
  return result;
}

}  // namespace facenet::emulation
