#include "cuda/launch.h"

#include <string>

#include "common/checks.h"

namespace facenet::cuda {
namespace {

std::string text(const Sizes& sizes) {
  std::string all;
  for (int k = 0; k < sizes.count; ++k) {
    const auto& [name, size] = sizes.each[k];
    all += (k == 0 ? "" : " ") + std::string(name) + "=" + std::to_string(size);
  }
  return all;
}

}  // namespace

void fail(const char* message) { FACENET_CHECK(false, message); }

void check_cuda(cudaError_t status, const char* what, const Sizes& sizes) {
  if (status == cudaSuccess) return;
  const std::string of = text(sizes);
  FACENET_CHECK(false, what, of.empty() ? "" : " (" + of + ")", ": ", cudaGetErrorName(status),
                ", ", cudaGetErrorString(status));
}

void check_launch(cudaError_t status, const char* name, const Sizes& sizes,
                  const LaunchShape& shape, const char* step) {
  FACENET_CHECK(status == cudaSuccess, name, " (", text(sizes), "): ", step, " with grid (",
                shape.grid.x, ", ", shape.grid.y, ", ", shape.grid.z, "), ", shape.block.x,
                " threads and ", shape.shared_bytes,
                " bytes of shared memory failed: ", cudaGetErrorName(status), ", ",
                cudaGetErrorString(status));
}

// A launch with more than 48 KiB needs an attribute of the kernel. It is always set to the most
// that the device has, so that threads which launch the same kernel with other sizes do not lower
// it for each other.
void allow_shared_memory(const char* name, const Sizes& sizes, const LaunchShape& shape,
                         const void* kernel) {
  if (shape.shared_bytes <= 48 * 1024) return;
  const auto check = [&](cudaError_t status, const char* step) {
    check_launch(status, name, sizes, shape, step);
  };
  int device = 0, most = 0;
  check(cudaGetDevice(&device), "finding the device");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "reading the limit of shared memory");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
        "asking for shared memory");
}

}  // namespace facenet::cuda
