// One table of kernels per instruction set is linked in; this picks the processor's.
#include "cpu/isa.h"
#include "cpu/kernels.h"

namespace facenet {

#define FACENET_DECLARE(isa)                           \
  namespace isa {                                      \
  template <class T>                                   \
  const cpu::Kernels<T>& table();                      \
  extern template const cpu::Kernels<float>& table();  \
  extern template const cpu::Kernels<double>& table(); \
  }
#ifdef FACENET_X86
FACENET_DECLARE(avx512)
FACENET_DECLARE(avx2)
#endif
FACENET_DECLARE(baseline)
#undef FACENET_DECLARE

namespace cpu {

template <class T>
const Kernels<T>& kernels() {
#ifdef FACENET_X86
  if (instruction_set() == Isa::kAvx512) return avx512::table<T>();
  if (instruction_set() == Isa::kAvx2) return avx2::table<T>();
#endif
  return baseline::table<T>();
}

template const Kernels<float>& kernels();
template const Kernels<double>& kernels();

}  // namespace cpu
}  // namespace facenet
