// Launching a kernel, checked: an error carries the kernel's name and the shapes it was given.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "common/checks.h"

namespace facenet::cuda {

inline void check_cuda(cudaError_t status, const char* what) {
  FACENET_CHECK(status == cudaSuccess, what, ": ", cudaGetErrorName(status), ", ",
                cudaGetErrorString(status));
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
};

// `sizes` says what the kernel works on ("M=1800 N=1800 D=128"), for the error message.
template <class... Parameters, class... Arguments>
void launch(const char* name, const std::string& sizes, cudaStream_t stream, LaunchShape shape,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const auto check = [&](cudaError_t status, const char* step) {
    FACENET_CHECK(status == cudaSuccess, name, " (", sizes, "): ", step, " with grid (",
                  shape.grid.x, ", ", shape.grid.y, ", ", shape.grid.z, "), ", shape.block.x,
                  " threads and ", shape.shared_bytes,
                  " bytes of shared memory failed: ", cudaGetErrorName(status), ", ",
                  cudaGetErrorString(status));
  };
  // A launch with more than 48 KiB needs an attribute of the kernel. It is always set to the most
  // that the device has, so that threads which launch the same kernel with other sizes do not lower
  // it for each other.
  if (shape.shared_bytes > 48 * 1024) {
    int device = 0, most = 0;
    check(cudaGetDevice(&device), "finding the device");
    check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "reading the limit of shared memory");
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, most),
          "asking for shared memory");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), "launching");
}

}  // namespace facenet::cuda
