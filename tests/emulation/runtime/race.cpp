#include "race.h"

#include <algorithm>
#include <cstring>

#include "report.h"

namespace facenet::emulation {

const char* verb_of(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "reads";
    case AccessKind::kWrite:
      return "writes";
    case AccessKind::kAtomicRead:
      return "atomically reads";
    default:
      return "atomically updates";
  }
}

void RaceDetector::begin_block(uint32_t threads) {
  ++epoch_;
  for (uint32_t warp = 0; warp < (threads + 31) / 32; ++warp) {
    std::fill_n(clocks_[warp].time, 32, 1u);
    std::memset(clocks_[warp].known, 0, sizeof(clocks_[warp].known));
  }
}

void RaceDetector::sync_warp(uint32_t warp, uint32_t mask) {
  Clocks& clocks = clocks_[warp];
  uint32_t all[32] = {};
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    for (int other = 0; other < 32; ++other)
      all[other] = std::max(all[other], clocks.known[lane][other]);
  }
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) all[lane] = std::max(all[lane], clocks.time[lane]++);
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) std::copy_n(all, 32, clocks.known[lane]);
}

bool RaceDetector::ordered(const Accesses& past, uint32_t thread) const {
  if (past.epoch != epoch_) return true;
  if (past.warp != thread / 32) return false;
  const uint32_t lane = thread % 32;
  const uint32_t* known = clocks_[past.warp].known[lane];
  for (uint32_t others = past.lanes & ~(1u << lane); others != 0; others &= others - 1)
    if (known[__builtin_ctz(others)] < past.time) return false;
  return true;
}

const RaceDetector::Accesses* RaceDetector::conflict(const Cell& cell, AccessKind kind,
                                                     uint32_t thread) const {
  for (int other = 0; other < 4; ++other)
    if (may_race(AccessKind(other), kind) && !ordered(cell.of[other], thread))
      return &cell.of[other];
  return nullptr;
}

void RaceDetector::record(Accesses& accesses, uint32_t thread, const void* where) {
  const uint16_t warp = uint16_t(thread / 32);
  const uint32_t bit = 1u << thread % 32;
  const uint32_t time = clocks_[warp].time[thread % 32];
  if (ordered(accesses, thread)) {
    // Whoever comes after this one comes after those before it.
    accesses = {epoch_, time, bit, warp, uint16_t(thread), 0, where};
  } else if (accesses.warp == warp) {
    accesses.time = std::max(accesses.time, time);
    accesses.lanes |= bit;
    accesses.another = accesses.thread;
    accesses.thread = uint16_t(thread);
    accesses.where = where;
  } else if (accesses.warp != kSeveralWarps) {
    accesses.warp = kSeveralWarps;
    accesses.another = uint16_t(thread);
  }
}

void RaceDetector::set_in_flight(size_t offset, size_t bytes, bool in_flight) {
  std::vector<Word>& words = words_[kDynamic];
  const size_t end = (offset + bytes + 3) / 4;
  if (end > words.size()) words.resize(end);
  for (size_t word = offset / 4; word < end; ++word) words[word].in_flight = in_flight;
}

std::string RaceDetector::access_word(Memory memory, size_t index, size_t begin, size_t stop,
                                      AccessKind kind, uint32_t thread, const void* where) {
  Word& word = words_[memory][index];
  const auto place = [&] {
    return "bytes " + std::to_string(index * 4 + begin) + " to " +
           std::to_string(index * 4 + stop - 1) + " of " +
           (memory == kDynamic ? "dynamic" : "static") + " shared memory";
  };
  if (word.in_flight && memory == kDynamic)
    return "cp.async: " + place() + " are used at " + source_line(where) +
           " before the wait for the copy to them";
  const bool whole = begin == 0 && stop == 4 && word.split_epoch != epoch_;
  if (!whole && word.split_epoch != epoch_) {
    if (word.parts == 0) {
      parts_.resize(parts_.size() + 4);
      word.parts = uint32_t(parts_.size() / 4);
    }
    std::fill_n(&parts_[4 * (word.parts - 1)], 4, word.whole);
    word.split_epoch = epoch_;
  }
  for (size_t byte = whole ? 3 : begin; byte < (whole ? 4 : stop); ++byte) {
    Cell& cell = whole ? word.whole : parts_[4 * (word.parts - 1) + byte];
    if (const Accesses* past = conflict(cell, kind, thread)) {
      const uint32_t other = past->thread != thread ? past->thread : past->another;
      const char* verb = verb_of(AccessKind(past - cell.of));
      return "data race on " + place() + ": thread " + std::to_string(other) + " " + verb +
             " them at " + source_line(past->where) + ", thread " + std::to_string(thread) + " " +
             verb_of(kind) + " them at " + source_line(where) + ", and no " +
             (other / 32 == thread / 32 ? "__syncwarp" : "__syncthreads") + " is between";
    }
    record(cell.of[int(kind)], thread, where);
  }
  return {};
}

}  // namespace facenet::emulation
