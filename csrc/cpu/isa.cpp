#include "cpu/isa.h"

#include <cstdlib>
#include <cstring>

namespace facenet::cpu {
namespace {

Isa detect() {
  Isa best = Isa::kBaseline;
#ifdef FACENET_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::kAvx2;
  if (best == Isa::kAvx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    best = Isa::kAvx512;
  }
#endif
  if (const char* wanted = std::getenv("FACENET_EXT_ISA")) {
    if (std::strcmp(wanted, "baseline") == 0) best = Isa::kBaseline;
    if (std::strcmp(wanted, "avx2") == 0 && best == Isa::kAvx512) best = Isa::kAvx2;
  }
  return best;
}

}  // namespace

Isa instruction_set() {
  static const Isa isa = detect();
  return isa;
}

const char* instruction_set_name() {
  switch (instruction_set()) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace facenet::cpu
