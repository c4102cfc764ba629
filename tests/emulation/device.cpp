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
  limits_.most_waiting = int(emulation::limit("MOST_WAITING", 31));
  // Tests are small: what serves large batches serves these too, unless a test asks for less.
  limits_.counted_rows = emulation::limit("COUNTED_ROWS", 100);
  limits_.small_work = double(emulation::limit("SMALL_WORK", 0));
}

Device::~Device() = default;

// Where AddressSanitizer finds accesses beyond an array of a workspace.
const size_t kGap = 256;
void guard_gap(void* begin, size_t bytes) { emulation::guard_memory(begin, bytes); }
void unguard(void* begin, size_t bytes) { emulation::unguard_memory(begin, bytes); }

}  // namespace facenet::cuda
