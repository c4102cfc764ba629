#include "block_race.h"

#include <algorithm>

#include "report.h"

namespace facenet::emulation {
namespace {

// Pages of a hundred KiB each: what is beyond is forgotten at the next launch.
constexpr size_t kMostPages = 4096;

}  // namespace

void BlockRaceDetector::begin_launch(uint64_t blocks) {
  ++launch_;
  releases_.assign(blocks, 0);
  if (pages_.size() > kMostPages) {
    pages_.clear();
    std::fill(std::begin(cache_), std::end(cache_), Cached());
  }
}

void BlockRaceDetector::begin_block(uint32_t block, uint32_t threads) {
  block_ = block;
  has_acquired_ = false;
  threads_.assign(threads, {false, false});
}

void BlockRaceDetector::fence(uint32_t thread) {
  threads_[thread].has_fenced = true;
  has_acquired_ |= threads_[thread].has_updated;
}

BlockRaceDetector::Page& BlockRaceDetector::page_of(uintptr_t number) {
  Cached& cached = cache_[number % std::size(cache_)];
  if (cached.page == nullptr || cached.number != number) {
    std::unique_ptr<Page>& page = pages_[number];
    if (page == nullptr) page.reset(new Page);
    cached = {number, page.get()};
  }
  return *cached.page;
}

bool BlockRaceDetector::ordered(const Access& past, uint32_t bytes) const {
  if (past.launch != launch_ || past.block == block_ || (past.bytes & bytes) == 0) return true;
  // Which of several blocks has which part of a word is not known.
  if (past.block == kSeveral) return has_acquired_ || past.bytes != 15;
  return has_acquired_ && releases_[past.block] > past.releases;
}

std::string BlockRaceDetector::access(const void* address, size_t bytes, AccessKind kind,
                                      uint32_t thread, const void* where) {
  if (kind == AccessKind::kAtomicUpdate) {
    if (threads_[thread].has_fenced) ++releases_[block_];
    threads_[thread].has_updated = true;
  }
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address), end = begin + bytes;
  for (uintptr_t word = begin / 4; word < (end + 3) / 4; ++word) {
    uint32_t mask = 15;
    if (word * 4 < begin) mask &= 15u << (begin - word * 4);
    if (word * 4 + 4 > end) mask &= 15u >> (word * 4 + 4 - end);
    Access* accesses = page_of(word / 1024).words[word % 1024].of;
    // Most accesses repeat one: what was checked then holds, since blocks run one after the other.
    const Access& mine = accesses[int(kind)];
    if (mine.launch == launch_ && mine.block == block_ && mine.releases == releases_[block_] &&
        (mine.bytes & mask) == mask)
      continue;
    std::string problem = access_word(accesses, mask, kind, where);
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string BlockRaceDetector::access_word(Access* accesses, uint32_t mask, AccessKind kind,
                                           const void* where) {
  for (int other = 0; other < 4; ++other) {
    const Access& past = accesses[other];
    if (!may_race(AccessKind(other), kind) || ordered(past, mask)) continue;
    return "data race of blocks on global memory: block " +
           (past.block == kSeveral ? std::string("after block")
                                   : "number " + std::to_string(past.block)) +
           " " + verb_of(AccessKind(other)) + " it at " + source_line(past.where) +
           ", this block " + verb_of(kind) + " it at " + source_line(where) +
           ", and nothing orders them";
  }
  Access& mine = accesses[int(kind)];
  if (mine.launch != launch_)
    mine = {launch_, block_, releases_[block_], mask, where};
  else if (mine.block == block_)
    mine = {launch_, block_, releases_[block_], mine.bytes | mask, where};
  else
    mine = {launch_, kSeveral, 0, mine.bytes | mask, where};
  return {};
}

}  // namespace facenet::emulation
