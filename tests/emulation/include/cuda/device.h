// The twin of the product's header: the operators take CPU tensors, and the device is one that the
// environment describes.
#pragma once

#include <cuda_runtime.h>

#include "common/checks.h"
#include "cuda/launch.h"

#define FACENET_CUDA_KEY CPU

namespace facenet::cuda {

// Where AddressSanitizer finds accesses beyond an array of a workspace.
constexpr size_t kGap = 256;
inline void guard_gap(void* begin, size_t bytes) { emulation::guard_memory(begin, bytes); }
inline void unguard(void* begin, size_t bytes) { emulation::unguard_memory(begin, bytes); }

class Device {
 public:
  explicit Device(const Tensor&) {
    int major = 0, minor = 0;
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "capability");
    check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "capability");
    check_cuda(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, 0),
               "multiprocessors");
    check_cuda(cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
               "shared memory");
    capability_ = 10 * major + minor;
  }

  cudaStream_t stream() const { return nullptr; }
  int capability() const { return capability_; }
  int processors() const { return processors_; }
  int shared_bytes() const { return shared_bytes_; }

 private:
  int capability_ = 0;
  int processors_ = 0;
  int shared_bytes_ = 0;
};

}  // namespace facenet::cuda
