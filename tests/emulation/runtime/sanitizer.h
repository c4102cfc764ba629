// AddressSanitizer's interface, where the process has it: the kernels are compiled with it in one
// flavour, the runtime never is, and so the functions may be missing.
#pragma once

#include <cstddef>

extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* begin, size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* begin, size_t bytes);
__attribute__((weak)) void* __asan_region_is_poisoned(void* begin, size_t bytes);
__attribute__((weak)) void __asan_set_error_report_callback(void (*callback)(const char*));
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** save, const void* bottom,
                                                          size_t bytes);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* saved, const void** bottom,
                                                           size_t* bytes);
}

namespace facenet::emulation {

inline bool has_address_sanitizer() { return __asan_poison_memory_region != nullptr; }

}  // namespace facenet::emulation
