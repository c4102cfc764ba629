// The part of the CUDA runtime's API that the launching side uses. Everything is synchronous.
#pragma once

#include <cstddef>
#include <tuple>

#include "emulation/qualifiers.h"
#include "emulation/vector_types.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
};
using cudaError = cudaError_t;
using cudaStream_t = struct CUstream_st*;

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault,
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated,
};
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned int numAttrs;
};

extern "C" {
FACENET_EMULATION_API const char* cudaGetErrorName(cudaError_t error);
FACENET_EMULATION_API const char* cudaGetErrorString(cudaError_t error);
FACENET_EMULATION_API cudaError_t cudaGetLastError();
FACENET_EMULATION_API cudaError_t cudaPeekAtLastError();
FACENET_EMULATION_API cudaError_t cudaGetDevice(int* device);
FACENET_EMULATION_API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                                         int device);
FACENET_EMULATION_API cudaError_t cudaFuncSetAttribute(const void* kernel,
                                                       cudaFuncAttribute attribute, int value);
FACENET_EMULATION_API cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes,
                                                  cudaStream_t stream = nullptr);
FACENET_EMULATION_API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes,
                                                  cudaMemcpyKind kind,
                                                  cudaStream_t stream = nullptr);
FACENET_EMULATION_API cudaError_t cudaStreamSynchronize(cudaStream_t stream);
FACENET_EMULATION_API cudaError_t cudaDeviceSynchronize();
FACENET_EMULATION_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                                        cudaStreamCaptureStatus* status);
}

namespace facenet::emulation {

// Runs `body(argument)` in every thread of the grid. Throws std::runtime_error where a thread
// faults.
FACENET_EMULATION_API cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                                         void (*body)(void*), void* argument);

}  // namespace facenet::emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  // Each thread calls the kernel by value with its own copy of these, as on a device.
  using Call = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  Call call(kernel, std::tuple<Parameters...>(static_cast<Arguments&&>(arguments)...));
  return facenet::emulation::launch(
      *config, reinterpret_cast<const void*>(kernel),
      [](void* pointer) {
        const Call& the_call = *static_cast<const Call*>(pointer);
        std::apply(the_call.first, the_call.second);
      },
      &call);
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
