// What the environment asks for, read at every launch, so that a test can change it.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace facenet::emulation {

inline int64_t setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::strtoll(text, nullptr, 0);
}

// 75, 80, 90, ...
inline int device_capability() { return int(setting("FACENET_EMULATED_CAPABILITY", 90)); }
inline int device_processors() { return int(setting("FACENET_EMULATED_PROCESSORS", 4)); }
// Whether launches are written down, and whether that is all that is done of them.
inline bool logging() {
  const char* const path = std::getenv("FACENET_EMULATED_LOG");
  return path != nullptr && *path != 0;
}
inline bool dry_run() { return setting("FACENET_EMULATED_DRY_RUN", 0) != 0; }
// Of the order in which blocks, warps and lanes run.
inline uint64_t order_seed() { return uint64_t(setting("FACENET_EMULATED_SEED", 1)); }

// The most shared memory that one block may have, in bytes.
inline int device_shared_bytes() {
  switch (device_capability()) {
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

// Whether kernels are compiled with the race detector's instrumentation.
bool race_detection();

}  // namespace facenet::emulation
