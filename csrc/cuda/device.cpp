#include "cuda/device.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "common/checks.h"
#include "cuda/launch.h"

namespace facenet::cuda {

using torch::stable::accelerator::DeviceGuard;

Device::Device(const Tensor& tensor) : index_(tensor.get_device_index()) {
  const auto attribute = [&](cudaDeviceAttr which, const char* what) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, index_), what);
    return value;
  };
  capability_ = 10 * attribute(cudaDevAttrComputeCapabilityMajor, "compute capability") +
                attribute(cudaDevAttrComputeCapabilityMinor, "compute capability");
  processors_ = attribute(cudaDevAttrMultiProcessorCount, "multiprocessors");
  shared_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, "shared memory");
  void* stream = nullptr;
  FACENET_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream) == 0,
                "no current stream on CUDA device ", index_);
  stream_ = static_cast<cudaStream_t>(stream);
  guard_ = new DeviceGuard(index_);
}

Device::~Device() { delete static_cast<DeviceGuard*>(guard_); }

const size_t kGap = 0;
void guard_gap(void*, size_t) {}
void unguard(void*, size_t) {}

}  // namespace facenet::cuda
