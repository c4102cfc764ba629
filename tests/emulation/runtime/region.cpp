#include "region.h"

#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <new>

#include "sanitizer.h"

namespace facenet::emulation {
namespace {

struct TlsIndex {
  unsigned long module;
  unsigned long offset;
};

}  // namespace
}  // namespace facenet::emulation

// The C library's: the address of a thread-local variable, which it allocates at first.
extern "C" void* __tls_get_addr(facenet::emulation::TlsIndex* index);

namespace facenet::emulation {

SharedRegion::SharedRegion() {
  void* memory = mmap(nullptr, kMaxBytes + 2 * kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<unsigned char*>(memory);
  begin_ = memory_ + kGuardBytes;
  if (has_address_sanitizer()) __asan_poison_memory_region(memory_, kMaxBytes + 2 * kGuardBytes);
}

SharedRegion::~SharedRegion() {
  if (has_address_sanitizer()) __asan_unpoison_memory_region(memory_, kMaxBytes + 2 * kGuardBytes);
  munmap(memory_, kMaxBytes + 2 * kGuardBytes);
}

void SharedRegion::resize(size_t bytes) {
  if (bytes == bytes_) return;
  bytes_ = bytes;
  if (!has_address_sanitizer()) return;
  __asan_unpoison_memory_region(begin_, bytes);
  __asan_poison_memory_region(begin_ + bytes, kMaxBytes - bytes + kGuardBytes);
}

void SharedRegion::find_static(const void* kernel) {
  struct Search {
    size_t address;
    SharedRegion* region;
  } search = {reinterpret_cast<size_t>(kernel), this};
  static_bytes_ = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* argument) {
        const Search& wanted = *static_cast<Search*>(argument);
        bool is_here = false;
        size_t thread_local_bytes = 0;
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const ElfW(Phdr) & segment = object->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD)
            is_here |= wanted.address - (object->dlpi_addr + segment.p_vaddr) < segment.p_memsz;
          if (segment.p_type == PT_TLS) thread_local_bytes = segment.p_memsz;
        }
        if (is_here && thread_local_bytes != 0) {
          TlsIndex index = {object->dlpi_tls_modid, 0};
          wanted.region->static_begin_ = static_cast<unsigned char*>(__tls_get_addr(&index));
          wanted.region->static_bytes_ = thread_local_bytes;
        }
        return int(is_here);
      },
      &search);
}

void SharedRegion::poison() {
  if (bytes_ != 0) std::memset(begin_, 0xff, bytes_);
  if (static_bytes_ != 0) std::memset(static_begin_, 0xff, static_bytes_);
}

}  // namespace facenet::emulation
