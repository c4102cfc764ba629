#include "cpu/buffer.h"

#include <array>
#include <cstdlib>
#include <new>
#include <vector>

namespace facenet::cpu {
namespace {

// A header of one cache line precedes a block. It keeps the data aligned, and says which size class
// the block goes back to.
constexpr int64_t kHeader = 64;
constexpr int kClasses = 17;  // 64 bytes, 128 bytes, ..., 4 MiB
constexpr size_t kBlocksPerClass = 16;
constexpr int64_t kMostKept = int64_t(16) << 20;  // bytes over all classes
constexpr int kUncached = -1;

int size_class(int64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return kUncached;  // so that the sanitizer sees each array's end, and each use after it is freed
#endif
  int index = 0;
  while (index < kClasses && bytes > int64_t(64) << index) ++index;
  return index < kClasses ? index : kUncached;
}

struct BlockCache {
  std::array<std::vector<void*>, kClasses> blocks;
  int64_t kept = 0;  // bytes in them
  ~BlockCache() {
    for (auto& list : blocks) {
      for (void* block : list) std::free(block);
    }
  }
};

BlockCache& cache() {
  static thread_local BlockCache blocks;
  return blocks;
}

}  // namespace

void* allocate_block(int64_t bytes) {
  const int index = size_class(bytes);
  void* block = nullptr;
  if (index != kUncached && !cache().blocks[index].empty()) {
    block = cache().blocks[index].back();
    cache().blocks[index].pop_back();
    cache().kept -= int64_t(64) << index;
  } else {
    const int64_t size = index == kUncached ? bytes : int64_t(64) << index;
    if (posix_memalign(&block, kHeader, size_t(kHeader + size)) != 0) throw std::bad_alloc();
    *static_cast<int*>(block) = index;
  }
  return static_cast<char*>(block) + kHeader;
}

void free_block(void* data) {
  if (data == nullptr) return;
  void* block = static_cast<char*>(data) - kHeader;
  const int index = *static_cast<int*>(block);
  const int64_t size = index == kUncached ? 0 : int64_t(64) << index;
  if (index != kUncached && cache().blocks[index].size() < kBlocksPerClass &&
      cache().kept + size <= kMostKept) {
    cache().blocks[index].push_back(block);
    cache().kept += size;
  } else {
    std::free(block);
  }
}

}  // namespace facenet::cpu
