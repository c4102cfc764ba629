// Scratch memory of one call: a single allocation of torch's caching allocator, carved.
//
// A structure lists its arrays in `place(Workspace&)`, which runs twice: to measure, then to carve.
#pragma once

#include "cuda/device.h"

namespace facenet::cuda {

// Memory of torch's caching allocator. When the object is destroyed, torch may hand the memory to
// what the stream runs later; kernels that are under way still have it.
class Memory {
 public:
  Memory(const Device& device, size_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  unsigned char* data() const { return data_; }

 private:
  void* tensor_;
  unsigned char* data_;
};

class Workspace {
 public:
  Workspace() = default;  // measures
  Workspace(unsigned char* begin) : begin_(begin) {}

  template <class T>
  T* take(int64_t count) {
    const size_t bytes = size_t(count) * sizeof(T);
    const size_t end = used_ + bytes;
    T* array = begin_ == nullptr ? nullptr : reinterpret_cast<T*>(begin_ + used_);
    used_ = (end + kGap + kAlignment - 1) / kAlignment * kAlignment;
    if (begin_ != nullptr) guard_gap(begin_ + end, used_ - end);
    return array;
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 256;
  unsigned char* begin_ = nullptr;
  size_t used_ = 0;
};

template <class Arrays>
class Scratch : public Arrays {
 public:
  Scratch(const Device& device, Arrays sizes)
      : Arrays(sizes), bytes_(measure(*this)), memory_(device, bytes_) {
    Workspace carve(memory_.data());
    this->place(carve);
  }
  ~Scratch() { unguard(memory_.data(), bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  static size_t measure(Arrays& arrays) {
    Workspace workspace;
    arrays.place(workspace);
    return workspace.used();
  }

  const size_t bytes_;
  const Memory memory_;
};

}  // namespace facenet::cuda
