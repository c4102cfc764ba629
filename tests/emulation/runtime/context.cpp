#include "context.h"

#include <sys/mman.h>

#include <new>

#include "sanitizer.h"

#if defined(__x86_64__)
// Saves what a called function must preserve, on the stack, and the stack's pointer in *save.
extern "C" void facenet_emulation_switch(void** save, void* load);
asm(R"(
.text
.type facenet_emulation_switch, @function
.hidden facenet_emulation_switch
.globl facenet_emulation_switch
facenet_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size facenet_emulation_switch, .-facenet_emulation_switch

.type facenet_emulation_start, @function
.hidden facenet_emulation_start
.globl facenet_emulation_start
facenet_emulation_start:
  movq %r12, %rdi
  call *%r13
  ud2
.size facenet_emulation_start, .-facenet_emulation_start
)");
extern "C" void facenet_emulation_start();
#endif

namespace facenet::emulation {

void Context::prepare(void* stack, size_t colour, void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  stack_ = stack;
  stack_bytes_ = kStackBytes;
  fake_stack_ = nullptr;
  // Stacks start at different distances from their ends: all at the same one, their first frames
  // would share a few sets of the processor's cache.
  const size_t used = kStackBytes - colour * 1088 % 16384 / 64 * 64;
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack) + used);
  *--top = nullptr;  // the return address of facenet_emulation_start: where unwinding ends
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&facenet_emulation_start);
  *--top = nullptr;                                   // rbp
  *--top = nullptr;                                   // rbx
  *--top = this;                                      // r12
  *--top = reinterpret_cast<void*>(&Context::start);  // r13
  *--top = nullptr;                                   // r14
  *--top = nullptr;                                   // r15
  stack_pointer_ = top;
#else
  getcontext(&state_);
  state_.uc_stack.ss_sp = stack;
  state_.uc_stack.ss_size = used;
  state_.uc_link = nullptr;
  const auto bits = reinterpret_cast<size_t>(this);  // makecontext passes int only
  makecontext(&state_, reinterpret_cast<void (*)()>(+[](unsigned high, unsigned low) {
    start(reinterpret_cast<void*>(size_t(high) << 32 | low));
  }),
              2, unsigned(bits >> 32), unsigned(bits));
#endif
}

void Context::switch_from(Context& from, bool forever) {
  came_from_ = &from;
  if (__sanitizer_start_switch_fiber != nullptr)
    __sanitizer_start_switch_fiber(forever ? nullptr : &from.fake_stack_, stack_, stack_bytes_);
#if defined(__x86_64__)
  facenet_emulation_switch(&from.stack_pointer_, stack_pointer_);
#else
  swapcontext(&from.state_, &state_);
#endif
  from.arrive(from.came_from_);
}

void Context::arrive(Context* from) {
  if (__sanitizer_finish_switch_fiber == nullptr) return;
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
  if (from->stack_ == nullptr) {
    from->stack_ = bottom;
    from->stack_bytes_ = bytes;
  }
}

void Context::start(void* context) {
  Context& self = *static_cast<Context*>(context);
  self.arrive(self.came_from_);
  self.entry_(self.argument_);
  __builtin_trap();
}

Stacks::~Stacks() {
  if (memory_ != nullptr) munmap(memory_, count_ * kStride);
}

void Stacks::reserve(size_t count) {
  if (count <= count_) return;
  if (memory_ != nullptr) {
    clear_poison();
    munmap(memory_, count_ * kStride);
  }
  count_ = count;
  void* memory = mmap(nullptr, count * kStride, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    memory_ = nullptr;
    count_ = 0;
    throw std::bad_alloc();
  }
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count; ++i) mprotect(memory_ + i * kStride, 4096, PROT_NONE);
}

void* Stacks::operator[](size_t index) const { return memory_ + index * kStride + 4096; }

void Stacks::clear_poison() const {
  if (!has_address_sanitizer()) return;
  for (size_t i = 0; i < count_; ++i) __asan_unpoison_memory_region((*this)[i], kStackBytes);
}

}  // namespace facenet::emulation
