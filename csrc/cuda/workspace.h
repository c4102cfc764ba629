// Scratch memory of one call: a single allocation of torch's caching allocator, carved.
//
// A structure lists its arrays in `place(Workspace&)`, which runs twice: to measure, then to carve.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "common/checks.h"
#include "cuda/device.h"

namespace facenet::cuda {

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
  // The memory is on the device of `like`, for the current stream.
  Scratch(const Tensor& like, Arrays sizes) : Arrays(sizes), memory_(allocate(like, *this)) {
    Workspace carve(begin());
    this->place(carve);
    bytes_ = carve.used();
  }
  ~Scratch() { unguard(begin(), bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  static Tensor allocate(const Tensor& like, Arrays& arrays) {
    Workspace measure;
    arrays.place(measure);
    return torch::stable::new_empty(like, {int64_t(measure.used())}, ScalarType::Byte);
  }
  unsigned char* begin() { return static_cast<unsigned char*>(memory_.data_ptr()); }

  Tensor memory_;
  size_t bytes_ = 0;
};

}  // namespace facenet::cuda
