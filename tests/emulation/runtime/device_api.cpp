// What kernels call, less the tensor cores: barriers, warp collectives, atomic operations.
#include "emulation/device_api.h"

#include <cmath>
#include <cstring>

#include "access.h"
#include "machine.h"
#include "report.h"
#include "settings.h"

namespace facenet::emulation {
namespace {

Machine& machine() { return *Machine::running(); }

struct Shuffle {
  ShuffleKind kind;
  uint64_t value;
  uint64_t result;
  int by;
  int width;
};

void complete_shuffle(void* const* arguments, uint32_t mask) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    Shuffle& self = *static_cast<Shuffle*>(arguments[lane]);
    const int begin = lane & ~(self.width - 1), end = begin + self.width;
    int source = lane;
    switch (self.kind) {
      case ShuffleKind::kIndex:
        source = begin + (self.by & (self.width - 1));
        break;
      case ShuffleKind::kUp:
        source = unsigned(self.by) <= unsigned(lane - begin) ? lane - self.by : lane;
        break;
      case ShuffleKind::kDown:
        source = unsigned(self.by) < unsigned(end - lane) ? lane + self.by : lane;
        break;
      case ShuffleKind::kXor:
        source = lane ^ (self.by & 31);
        if (source >= end) source = lane;
        break;
    }
    // A lane that takes no part has no value to give.
    self.result =
        (mask >> source & 1) != 0 ? static_cast<Shuffle*>(arguments[source])->value : ~uint64_t(0);
  }
}

struct Vote {
  bool predicate;
  uint32_t result;
};

void complete_ballot(void* const* arguments, uint32_t mask) {
  uint32_t votes = 0;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    votes |= uint32_t(static_cast<Vote*>(arguments[lane])->predicate) << lane;
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1)
    static_cast<Vote*>(arguments[__builtin_ctz(rest)])->result = votes;
}

struct Match {
  uint64_t value;
  uint32_t result;
};

void complete_match(void* const* arguments, uint32_t mask) {
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Match& self = *static_cast<Match*>(arguments[__builtin_ctz(rest)]);
    self.result = 0;
    for (uint32_t others = mask; others != 0; others &= others - 1) {
      const int other = __builtin_ctz(others);
      const bool equal = static_cast<Match*>(arguments[other])->value == self.value;
      self.result |= uint32_t(equal) << other;
    }
  }
}

struct Reduction {
  ReduceKind kind;
  uint32_t value;
};

uint32_t reduced(ReduceKind kind, uint32_t a, uint32_t b) {
  switch (kind) {
    case ReduceKind::kAdd:
      return a + b;
    case ReduceKind::kMin:
      return a < b ? a : b;
    case ReduceKind::kMax:
      return a < b ? b : a;
    case ReduceKind::kMinSigned:
      return int32_t(a) < int32_t(b) ? a : b;
    case ReduceKind::kMaxSigned:
      return int32_t(a) < int32_t(b) ? b : a;
    case ReduceKind::kAnd:
      return a & b;
    case ReduceKind::kOr:
      return a | b;
    default:
      return a ^ b;
  }
}

void complete_reduction(void* const* arguments, uint32_t mask) {
  const int first = __builtin_ctz(mask);
  uint32_t total = static_cast<Reduction*>(arguments[first])->value;
  for (uint32_t rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    const Reduction& other = *static_cast<Reduction*>(arguments[__builtin_ctz(rest)]);
    total = reduced(other.kind, total, other.value);
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1)
    static_cast<Reduction*>(arguments[__builtin_ctz(rest)])->value = total;
}

}  // namespace

void fault(const char* what) {
  machine().fault(std::string(what) + " at " + source_line(__builtin_return_address(0)));
}

void require_capability(int capability, const char* instruction) {
  const Machine* running = Machine::running();  // null where the host calls a device function
  const int here = running == nullptr ? device_capability() : running->capability();
  if (here < capability)
    machine().fault(std::string(instruction) + " on a device of capability " +
                    std::to_string(here) + ", which has no such instruction");
}

int block_barrier(BarrierKind kind, bool predicate) {
  return machine().barrier(kind, predicate, __builtin_return_address(0));
}

void fence() {
  if (race_detection()) machine().block_races().fence(machine().current().id);
}

void yield_thread() { machine().yield(); }

uint32_t lane_mask() { return 1u << machine().lane(); }

void sync_warp(uint32_t mask) {
  machine().collective(
      "__syncwarp", mask, nullptr, [](void* const*, uint32_t) {}, __builtin_return_address(0),
      true);
}

uint64_t shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int by, int width) {
  static const char* const kNames[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                       "__shfl_xor_sync"};
  if (width < 1 || width > kLanes || (width & (width - 1)) != 0)
    machine().fault("a shuffle's width must be a power of two up to 32");
  Shuffle self = {kind, value, 0, by, width};
  machine().collective(kNames[int(kind)], mask, &self, &complete_shuffle,
                       __builtin_return_address(0));
  return self.result;
}

uint32_t ballot(uint32_t mask, bool predicate) {
  Vote self = {predicate, 0};
  machine().collective("a vote", mask, &self, &complete_ballot, __builtin_return_address(0));
  return self.result;
}

uint32_t match_any(uint32_t mask, uint64_t value) {
  Match self = {value, 0};
  machine().collective("a match", mask, &self, &complete_match, __builtin_return_address(0));
  return self.result;
}

uint32_t reduce(ReduceKind kind, uint32_t mask, uint32_t value) {
  require_capability(80, "__reduce_sync");
  static const char* const kNames[] = {
      "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync",
      "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",  "__reduce_xor_sync"};
  Reduction self = {kind, value};
  machine().collective(kNames[int(kind)], mask, &self, &complete_reduction,
                       __builtin_return_address(0));
  return self.value;
}

template <class T>
T atomic(AtomicKind kind, T* address, T value, T compare) {
  check_access(machine(), address, sizeof(T), AccessKind::kAtomicUpdate, machine().current().id,
               __builtin_return_address(0));
  if (reinterpret_cast<size_t>(address) % sizeof(T) != 0)
    machine().fault("an atomic operation on an address that is not aligned");
  const T old = *address;
  switch (kind) {
    case AtomicKind::kAdd:
      if constexpr (std::is_same_v<T, int>)
        *address = int(unsigned(old) + unsigned(value));
      else
        *address = old + value;
      break;
    case AtomicKind::kMin:
      *address = value < old ? value : old;
      break;
    case AtomicKind::kMax:
      *address = old < value ? value : old;
      break;
    case AtomicKind::kExchange:
      *address = value;
      break;
    case AtomicKind::kCompareAndSwap:
      if (old == compare) *address = value;
      break;
    default:
      if constexpr (std::is_integral_v<T>)
        *address = kind == AtomicKind::kAnd  ? old & value
                   : kind == AtomicKind::kOr ? old | value
                                             : old ^ value;
  }
  return old;
}

void atomic_load(const void* address, void* value, size_t bytes) {
  check_access(machine(), address, bytes, AccessKind::kAtomicRead, machine().current().id,
               __builtin_return_address(0));
  if (reinterpret_cast<size_t>(address) % bytes != 0)
    machine().fault("an atomic load from an address that is not aligned");
  std::memcpy(value, address, bytes);
}

#define FACENET_INSTANTIATE(T) template FACENET_EMULATION_API T atomic<T>(AtomicKind, T*, T, T);
FACENET_INSTANTIATE(int)
FACENET_INSTANTIATE(unsigned)
FACENET_INSTANTIATE(unsigned long long)
FACENET_INSTANTIATE(float)
FACENET_INSTANTIATE(double)

unsigned char* dynamic_shared_memory() { return machine().region().dynamic(); }

size_t shared_offset(const void* pointer) {
  return size_t(static_cast<const unsigned char*>(pointer) - machine().region().dynamic());
}

}  // namespace facenet::emulation
