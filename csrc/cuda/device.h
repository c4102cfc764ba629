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

// Where a call goes from one kernel to another, and what a kernel lets wait.
struct Limits {
  // Up to this many rows, each is compared with all labels. That takes less time than a table of
  // labels and a radix sort, which are ten nodes of a graph.
  int64_t counted_rows = 4096;
  // Up to this many multiply-adds of a search it is small: search_small takes less time than the
  // kernels of a search by products.
  double small_work = 6e8;
  // Pairs of a warp that wait in an UndecidedQueue: with one more, all lanes have one.
  int most_waiting = 31;
};

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
  const Limits& limits() const { return limits_; }

 private:
  int index_ = 0;
  cudaStream_t stream_ = nullptr;
  int capability_ = 0;
  int processors_ = 0;
  int shared_bytes_ = 0;
  Limits limits_;
  void* guard_ = nullptr;  // of torch
};

// What lies between two arrays of a workspace: watched by the emulation, free here.
extern const size_t kGap;
void guard_gap(void* begin, size_t bytes);
void unguard(void* begin, size_t bytes);

}  // namespace facenet::cuda
