// Which of the compiled instruction sets this processor runs.
#pragma once

namespace facenet::cpu {

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The widest one, detected once; FACENET_EXT_ISA=avx2|baseline in the environment lowers it.
Isa instruction_set();

// "avx512", "avx2" or "baseline"
const char* instruction_set_name();

}  // namespace facenet::cpu
