// Threads that switch among each other on one thread of the system, each with a stack of its own.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace facenet::emulation {

constexpr size_t kStackBytes = size_t(256) << 10;

class Context {
 public:
  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Starts anew: `entry(argument)` runs on the first switch here, and must never return.
  void prepare(void* stack, size_t colour, void (*entry)(void*), void* argument);

  // Leaves `from`, goes on in this context. `forever`: nothing will switch to `from` again before
  // it is prepared anew.
  void switch_from(Context& from, bool forever = false);

 private:
  static void start(void* context);
  void arrive(Context* from);

#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t state_ = {};
#endif
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  const void* stack_ = nullptr;  // what AddressSanitizer is told; found out for a system's thread
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  Context* came_from_ = nullptr;
};

// `count` stacks with a page before each that faults. Thrown away with the object.
class Stacks {
 public:
  ~Stacks();
  void reserve(size_t count);
  void* operator[](size_t index) const;
  bool contains(const void* address) const {
    return size_t(static_cast<const char*>(address) - memory_) < count_ * kStride;
  }
  // After contexts were abandoned: AddressSanitizer still holds their frames' poison.
  void clear_poison() const;

 private:
  static constexpr size_t kStride = kStackBytes + 4096;
  char* memory_ = nullptr;
  size_t count_ = 0;
};

}  // namespace facenet::emulation
