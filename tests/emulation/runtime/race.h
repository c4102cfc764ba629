// Finds accesses to shared memory that no barrier orders.
//
// Two accesses to a byte by different threads of a block, of which at least one writes and not both
// are atomic, must be ordered: by a barrier of the block between them, or by __syncwarp of both
// threads where they are lanes of a warp. Shuffles, votes and other collectives order no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace facenet::emulation {

enum class AccessKind : uint8_t { kRead, kWrite, kAtomicRead, kAtomicUpdate };

// Whether two accesses by different threads are a race where nothing orders them.
inline bool may_race(AccessKind a, AccessKind b) {
  const auto atomic = [](AccessKind kind) {
    return kind == AccessKind::kAtomicRead || kind == AccessKind::kAtomicUpdate;
  };
  const auto writes = [](AccessKind kind) {
    return kind == AccessKind::kWrite || kind == AccessKind::kAtomicUpdate;
  };
  return (writes(a) || writes(b)) && !(atomic(a) && atomic(b));
}

const char* verb_of(AccessKind kind);

class RaceDetector {
 public:
  void begin_block(uint32_t threads);
  void block_barrier() { ++epoch_; }
  void sync_warp(uint32_t warp, uint32_t mask);

  // `thread` accesses [offset, offset + bytes) of one of the two memories. What is wrong with it,
  // or an empty text.
  enum Memory { kDynamic, kStatic };
  std::string access(Memory memory, size_t offset, size_t bytes, AccessKind kind, uint32_t thread,
                     const void* where) {
    std::vector<Word>& words = words_[memory];
    const size_t end = (offset + bytes + 3) / 4;
    if (end > words.size()) words.resize(end);
    std::string problem;
    for (size_t word = offset / 4; word < end && problem.empty(); ++word) {
      const size_t begin = word * 4 < offset ? offset - word * 4 : 0;
      const size_t stop = word * 4 + 4 > offset + bytes ? offset + bytes - word * 4 : 4;
      problem = access_word(memory, word, begin, stop, kind, thread, where);
    }
    return problem;
  }

  // Between cp.async and the wait for it nobody may touch its destination.
  void set_in_flight(size_t offset, size_t bytes, bool in_flight);

 private:
  // The accesses of one kind since the last barrier of the block, less those that an access listed
  // here comes after.
  struct Accesses {
    uint32_t epoch = 0;
    uint32_t time = 0;   // the latest of the lanes' own times
    uint32_t lanes = 0;  // of `warp`
    uint16_t warp = 0;   // or kSeveralWarps
    uint16_t thread = 0;
    uint16_t another = 0;  // a second thread, where there are several
    const void* where = nullptr;
  };
  struct Cell {
    Accesses of[4];  // each AccessKind
  };
  struct Word {
    Cell whole;
    uint32_t split_epoch = 0;  // since when it has been accessed in parts
    uint32_t parts = 0;        // index in parts_, less one
    bool in_flight = false;
  };
  // A lane's time is the number of warp barriers it has passed; `known` is up to which time of each
  // other lane everything has happened before.
  struct Clocks {
    uint32_t time[32];
    uint32_t known[32][32];
  };
  static constexpr uint16_t kSeveralWarps = 0xffff;

  std::string access_word(Memory memory, size_t word, size_t begin, size_t stop, AccessKind kind,
                          uint32_t thread, const void* where);
  bool ordered(const Accesses& past, uint32_t thread) const;
  const Accesses* conflict(const Cell& cell, AccessKind kind, uint32_t thread) const;
  void record(Accesses& accesses, uint32_t thread, const void* where);

  uint32_t epoch_ = 1;
  Clocks clocks_[32];
  std::vector<Word> words_[2];
  std::vector<Cell> parts_;  // four for each word that was ever accessed in parts
};

}  // namespace facenet::emulation
