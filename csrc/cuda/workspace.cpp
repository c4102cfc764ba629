#include "cuda/workspace.h"

#include <torch/csrc/stable/ops.h>

#include <memory>

#include "common/checks.h"

namespace facenet::cuda {

Memory::Memory(const Device& device, size_t bytes) {
  const torch::stable::Device place(torch::headeronly::DeviceType::FACENET_CUDA_KEY,
                                    torch::stable::DeviceIndex(device.index()));
  auto tensor = std::make_unique<Tensor>(
      torch::stable::empty({int64_t(bytes)}, ScalarType::Byte, std::nullopt, place));
  data_ = static_cast<unsigned char*>(tensor->mutable_data_ptr());
  tensor_ = tensor.release();
}

Memory::~Memory() { delete static_cast<Tensor*>(tensor_); }

}  // namespace facenet::cuda
