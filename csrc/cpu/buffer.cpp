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
constexpr int kClasses = 11;            // 64 bytes, 128 bytes, ..., 64 KiB
constexpr size_t kBlocksPerClass = 16;  // 16 * 128 KiB over all classes
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
  if (index != kUncached && cache().blocks[index].size() < kBlocksPerClass) {
    cache().blocks[index].push_back(block);
  } else {
    std::free(block);
  }
}

}  // namespace facenet::cpu
