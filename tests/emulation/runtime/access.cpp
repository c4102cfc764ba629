// The race detector's entry points: those that -fsanitize=thread calls. The compiler's own runtime
// library, which knows nothing of the emulated threads, is not linked.
#include "access.h"

#include "report.h"
#include "sanitizer.h"
#include "settings.h"

namespace facenet::emulation {
namespace {

bool g_instrumented = false;

void check_shared(Machine& machine, const void* address, size_t bytes, AccessKind kind,
                  uint32_t thread, const void* where) {
  SharedRegion& region = machine.region();
  const auto* pointer = static_cast<const unsigned char*>(address);
  RaceDetector::Memory memory = RaceDetector::kDynamic;
  size_t offset = size_t(pointer - region.dynamic());
  if (offset >= region.dynamic_bytes()) {
    if (size_t(pointer - region.statics()) >= region.static_bytes()) {
      if (region.in_guard(address))
        machine.fault("out of bounds: " + source_line(where) + " accesses byte " +
                      std::to_string(pointer - region.dynamic()) + " of " +
                      std::to_string(region.dynamic_bytes()) + " bytes of dynamic shared memory");
      if (machine.on_a_stack(address)) return;
      const std::string problem = machine.block_races().access(address, bytes, kind, thread, where);
      if (!problem.empty()) machine.fault(problem);
      return;
    }
    memory = RaceDetector::kStatic;
    offset = size_t(pointer - region.statics());
  } else if (offset + bytes > region.dynamic_bytes()) {
    machine.fault("out of bounds: " + source_line(where) + " accesses bytes beyond the " +
                  std::to_string(region.dynamic_bytes()) + " of dynamic shared memory");
  }
  const std::string problem = machine.races().access(memory, offset, bytes, kind, thread, where);
  if (!problem.empty()) machine.fault(problem);
}

inline void instrumented(const void* address, size_t bytes, AccessKind kind, const void* where) {
  if (Machine* machine = Machine::running())
    check_shared(*machine, address, bytes, kind, machine->current().id, where);
}

}  // namespace

bool race_detection() { return g_instrumented; }

void check_access(Machine& machine, const void* address, size_t bytes, AccessKind kind,
                  uint32_t thread, const void* where) {
  if (bytes == 0) return;
  if (__asan_region_is_poisoned != nullptr &&
      __asan_region_is_poisoned(const_cast<void*>(address), bytes) != nullptr)
    machine.fault("out of bounds: " + source_line(where) + " accesses " + std::to_string(bytes) +
                  " bytes, of which some are in no array");
  if (g_instrumented) check_shared(machine, address, bytes, kind, thread, where);
}

}  // namespace facenet::emulation

using facenet::emulation::AccessKind;
using facenet::emulation::instrumented;

#define FACENET_ENTRY extern "C" __attribute__((visibility("default"))) void
#define FACENET_ACCESS(name, bytes, kind)                                        \
  FACENET_ENTRY name(void* address) {                                            \
    instrumented(address, bytes, AccessKind::kind, __builtin_return_address(0)); \
  }
#define FACENET_ACCESSES(bytes)                             \
  FACENET_ACCESS(__tsan_read##bytes, bytes, kRead)          \
  FACENET_ACCESS(__tsan_write##bytes, bytes, kWrite)        \
  FACENET_ACCESS(__tsan_volatile_read##bytes, bytes, kRead) \
  FACENET_ACCESS(__tsan_volatile_write##bytes, bytes, kWrite)
FACENET_ACCESSES(1)
FACENET_ACCESSES(2)
FACENET_ACCESSES(4)
FACENET_ACCESSES(8)
FACENET_ACCESSES(16)
#define FACENET_UNALIGNED_ACCESSES(bytes)                    \
  FACENET_ACCESS(__tsan_unaligned_read##bytes, bytes, kRead) \
  FACENET_ACCESS(__tsan_unaligned_write##bytes, bytes, kWrite)
FACENET_UNALIGNED_ACCESSES(2)
FACENET_UNALIGNED_ACCESSES(4)
FACENET_UNALIGNED_ACCESSES(8)
FACENET_UNALIGNED_ACCESSES(16)

FACENET_ENTRY __tsan_read_range(void* address, size_t bytes) {
  instrumented(address, bytes, AccessKind::kRead, __builtin_return_address(0));
}
FACENET_ENTRY __tsan_write_range(void* address, size_t bytes) {
  instrumented(address, bytes, AccessKind::kWrite, __builtin_return_address(0));
}
FACENET_ENTRY __tsan_init() { facenet::emulation::g_instrumented = true; }
FACENET_ENTRY __tsan_func_entry(void*) {}
FACENET_ENTRY __tsan_func_exit(void*) {}
FACENET_ENTRY __tsan_vptr_read(void**) {}
FACENET_ENTRY __tsan_vptr_update(void**, void*) {}
