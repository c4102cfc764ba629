// Where a block's shared memory lies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facenet::emulation {

// The dynamic shared memory, of exactly the size that a launch asked for, amid memory that nobody
// may touch; and the static shared variables of the kernel's library.
class SharedRegion {
 public:
  static constexpr size_t kMaxBytes = size_t(227) << 10;
  static constexpr size_t kGuardBytes = size_t(128) << 10;

  SharedRegion();
  ~SharedRegion();

  void resize(size_t bytes);
  // The thread-local variables of the library that `kernel` is in are its static shared ones.
  void find_static(const void* kernel);
  void poison();  // a block finds 0xff everywhere, which is a NaN

  unsigned char* dynamic() const { return begin_; }
  size_t dynamic_bytes() const { return bytes_; }
  unsigned char* statics() const { return static_begin_; }
  size_t static_bytes() const { return static_bytes_; }

  bool in_guard(const void* address) const {
    const size_t offset = size_t(static_cast<const unsigned char*>(address) - memory_);
    return offset < kMaxBytes + 2 * kGuardBytes &&
           size_t(static_cast<const unsigned char*>(address) - begin_) >= bytes_;
  }

 private:
  unsigned char* memory_ = nullptr;
  unsigned char* begin_ = nullptr;
  size_t bytes_ = 0;
  unsigned char* static_begin_ = nullptr;
  size_t static_bytes_ = 0;
};

}  // namespace facenet::emulation
