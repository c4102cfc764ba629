// The device and stream of a call: those that torch has current. Never the default stream.
//
// This header and all that the kernels include are without torch, whose headers take nvcc longer
// than most kernels. device.cpp asks torch; the host emulation under tests/ has its own.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace torch::stable {
class Tensor;
}

namespace facenet::cuda {

class Device {
 public:
  // Makes the device of `tensor` current for the lifetime of this object.
  explicit Device(const torch::stable::Tensor& tensor);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  int capability() const { return capability_; }  // 75, 80, 90, ...
  int processors() const { return processors_; }
  int shared_bytes() const { return shared_bytes_; }  // the most that a block may have
  // Pairs of a warp that wait in an UndecidedQueue: with one more, all lanes have one.
  int most_waiting() const { return most_waiting_; }

 private:
  int index_ = 0;
  cudaStream_t stream_ = nullptr;
  int capability_ = 0;
  int processors_ = 0;
  int shared_bytes_ = 0;
  int most_waiting_ = 31;
  void* guard_ = nullptr;  // of torch
};

// What lies between two arrays of a workspace: watched by the emulation, free here.
extern const size_t kGap;
void guard_gap(void* begin, size_t bytes);
void unguard(void* begin, size_t bytes);

}  // namespace facenet::cuda
