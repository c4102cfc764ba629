// The twin of csrc/cuda/device.cpp: the operators take CPU tensors, and the device is one that the
// environment describes.
#include "cuda/device.h"

#include "cuda/launch.h"

namespace facenet::cuda {

Device::Device(const torch::stable::Tensor&) {
  const auto attribute = [](cudaDeviceAttr which, const char* what) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, 0), what);
    return value;
  };
  capability_ = 10 * attribute(cudaDevAttrComputeCapabilityMajor, "compute capability") +
                attribute(cudaDevAttrComputeCapabilityMinor, "compute capability");
  processors_ = attribute(cudaDevAttrMultiProcessorCount, "multiprocessors");
  shared_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, "shared memory");
  most_waiting_ = emulation::most_waiting();
}

Device::~Device() = default;

// Where AddressSanitizer finds accesses beyond an array of a workspace.
const size_t kGap = 256;
void guard_gap(void* begin, size_t bytes) { emulation::guard_memory(begin, bytes); }
void unguard(void* begin, size_t bytes) { emulation::unguard_memory(begin, bytes); }

}  // namespace facenet::cuda
