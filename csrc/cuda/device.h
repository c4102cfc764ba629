// The device and stream of a call: those that torch has current. Never the default stream.
//
// The host emulation under tests/ replaces this file.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "common/checks.h"
#include "cuda/launch.h"

// The dispatch key that the operators of csrc/cuda are registered for.
#define FACENET_CUDA_KEY CUDA

namespace facenet::cuda {

// What lies between two arrays of a workspace: watched by the emulation, free here.
constexpr size_t kGap = 0;
inline void guard_gap(void*, size_t) {}
inline void unguard(void*, size_t) {}

class Device {
 public:
  // Makes the device of `tensor` current for the lifetime of this object.
  explicit Device(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    const int32_t index = tensor.get_device_index();
    void* stream = nullptr;
    FACENET_CHECK(aoti_torch_get_current_cuda_stream(index, &stream) == 0,
                  "no current stream on CUDA device ", index);
    stream_ = static_cast<cudaStream_t>(stream);
    int major = 0, minor = 0;
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
               "compute capability");
    check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
               "compute capability");
    check_cuda(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, index),
               "multiprocessors");
    check_cuda(
        cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
        "shared memory");
    capability_ = 10 * major + minor;
  }

  cudaStream_t stream() const { return stream_; }
  int capability() const { return capability_; }  // 75, 80, 90, ...
  int processors() const { return processors_; }
  int shared_bytes() const { return shared_bytes_; }  // the most that a block may have

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
  int capability_ = 0;
  int processors_ = 0;
  int shared_bytes_ = 0;
};

}  // namespace facenet::cuda
