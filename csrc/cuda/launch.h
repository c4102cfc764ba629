// Launching a kernel, checked: an error carries the kernel's name and the sizes it was given.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

// What something works on, for the message of an error: {{"M", 1800}, {"D", 128}}.
struct Sizes {
  struct Size {
    const char* name;
    int64_t size;
  };
  static constexpr int kMost = 5;
  Size each[kMost] = {};
  int count = 0;

  Sizes() = default;
  Sizes(std::initializer_list<Size> sizes) {
    for (const Size& size : sizes) each[count++] = size;
  }
  Sizes with(const char* name, int64_t size) const {
    Sizes more = *this;
    more.each[more.count++] = {name, size};
    return more;
  }
};

template <class T>
Sizes sizes_of(const Pairs<T>& pairs) {
  return {{"M", pairs.anchors.count}, {"N", pairs.candidates.count}, {"D", pairs.anchors.dim}};
}

// They throw what the checks of an operator's arguments do.
[[noreturn]] void fail(const char* message);
void check_cuda(cudaError_t status, const char* what, const Sizes& sizes = {});

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
};

// The parts of a launch that no kernel's type changes.
void allow_shared_memory(const char* name, const Sizes& sizes, const LaunchShape& shape,
                         const void* kernel);
void check_launch(cudaError_t status, const char* name, const Sizes& sizes,
                  const LaunchShape& shape, const char* step);

template <class... Parameters, class... Arguments>
void launch(const char* name, const Sizes& sizes, cudaStream_t stream, const LaunchShape& shape,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  allow_shared_memory(name, sizes, shape, reinterpret_cast<const void*>(kernel));
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  check_launch(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name, sizes, shape,
               "launching");
}

}  // namespace facenet::cuda
