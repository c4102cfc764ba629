// Finds accesses to global memory by two blocks of a launch that nothing orders.
//
// Blocks run one after the other here, and in any order or at once on a device: where one writes
// what another reads or writes, both must be atomic, or the first must have released it
// (__threadfence, then an atomic update) and the second acquired it (an atomic update, then
// __threadfence), as the last block of a launch does that sums up what the others left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "race.h"

namespace facenet::emulation {

class BlockRaceDetector {
 public:
  void begin_launch(uint64_t blocks);
  void begin_block(uint32_t block, uint32_t threads);
  void fence(uint32_t thread);

  // What is wrong with this access of the running block, or an empty text.
  std::string access(const void* address, size_t bytes, AccessKind kind, uint32_t thread,
                     const void* where);

 private:
  struct Access {
    uint32_t launch = 0;
    uint32_t block = 0;     // or kSeveral
    uint32_t releases = 0;  // of the block, before the access
    uint32_t bytes = 0;     // of the word, as bits
    const void* where = nullptr;
  };
  struct Word {
    Access of[4];  // each AccessKind
  };
  struct Page {
    Word words[1024];
  };
  struct ThreadOrder {
    bool has_fenced, has_updated;
  };
  static constexpr uint32_t kSeveral = ~uint32_t(0);

  Page& page_of(uintptr_t number);
  bool ordered(const Access& past, uint32_t bytes) const;
  std::string access_word(Access* accesses, uint32_t mask, AccessKind kind, const void* where);

  uint32_t launch_ = 0;
  uint32_t block_ = 0;
  bool has_acquired_ = false;
  std::vector<uint32_t> releases_;  // of each block
  std::vector<ThreadOrder> threads_;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  struct Cached {
    uintptr_t number = 0;
    Page* page = nullptr;
  };
  Cached cache_[256];
};

}  // namespace facenet::emulation
