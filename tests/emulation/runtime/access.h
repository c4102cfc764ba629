// Accesses that the runtime makes on behalf of a thread: checked as the kernel's own are.
#pragma once

#include "machine.h"

namespace facenet::emulation {

void check_access(Machine& machine, const void* address, size_t bytes, AccessKind kind,
                  uint32_t thread, const void* where);

}  // namespace facenet::emulation
