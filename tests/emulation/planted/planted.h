// How the planted kernels are started from Python, through ctypes.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <exception>

#define PLANTED extern "C" __attribute__((visibility("default")))

namespace planted {

// Runs `kernel` with one pointer to data; prints what the launch throws, and returns 1 for it.
template <class T>
int run(void (*kernel)(T*), dim3 grid, dim3 block, size_t shared_bytes, T* data) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  try {
    if (shared_bytes > 48 * 1024)
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, data);
    if (status != cudaSuccess) std::puts(cudaGetErrorName(status));
    return status != cudaSuccess;
  } catch (const std::exception& error) {
    std::puts(error.what());
    std::fflush(stdout);
    return 1;
  }
}

}  // namespace planted
