// Launches, and the host's side of the CUDA runtime.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
#include <string>

#include "emulation/device_api.h"
#include "emulation/host_api.h"
#include "machine.h"
#include "report.h"
#include "sanitizer.h"
#include "settings.h"

namespace facenet::emulation {
namespace {

constexpr size_t kDefaultSharedBytes = size_t(48) << 10;

std::mutex g_mutex;
std::map<const void*, int> g_shared_bytes;  // what kernels were allowed beyond the default

cudaError_t check_shape(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const auto out_of_range = [](unsigned value, unsigned most) { return value < 1 || value > most; };
  if (out_of_range(grid.x, 0x7fffffff) || out_of_range(grid.y, 65535) ||
      out_of_range(grid.z, 65535) || out_of_range(block.x, 1024) || out_of_range(block.y, 1024) ||
      out_of_range(block.z, 64) || block.x * block.y * block.z > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  size_t allowed = kDefaultSharedBytes;
  {
    const std::lock_guard<std::mutex> lock(g_mutex);
    const auto found = g_shared_bytes.find(kernel);
    if (found != g_shared_bytes.end() && size_t(found->second) > allowed)
      allowed = size_t(found->second);
  }
  return config.dynamicSmemBytes > allowed ? cudaErrorInvalidValue : cudaSuccess;
}

// Sanitizers end the process: what they say comes with who was running.
void explain_error() {
  if (const Machine* machine = Machine::running())
    std::fprintf(stderr, "The emulated device was %s\n", machine->describe_running().c_str());
}

void explain_errors_of_sanitizers() {
  static const bool once = [] {
    if (__asan_set_error_report_callback != nullptr)
      __asan_set_error_report_callback([](const char*) { explain_error(); });
    // UBSan's library has a function of the same name as AddressSanitizer's.
    if (void* library = dlopen("libubsan.so.1", RTLD_LAZY | RTLD_NOLOAD)) {
      using Setter = void (*)(void (*)());
      if (void* setter = dlsym(library, "__sanitizer_set_death_callback"))
        reinterpret_cast<Setter>(setter)(&explain_error);
    }
    return true;
  }();
  static_cast<void>(once);
}

uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 31) * 0x7fb5d329728ea185u;
  x = (x ^ x >> 27) * 0x81dadef4bc2dd44du;
  return x ^ x >> 33;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(void*),
                   void* argument) {
  const cudaError_t status = check_shape(config, kernel);
  if (status != cudaSuccess) return status;
  if (logging()) log(function_name(kernel).c_str());
  if (dry_run()) return cudaSuccess;
  explain_errors_of_sanitizers();
  Machine& machine = Machine::of_this_thread();
  machine.begin_launch(device_capability());
  machine.region().resize(config.dynamicSmemBytes);
  machine.region().find_static(kernel);
  const uint3 grid = config.gridDim;
  gridDim = grid;
  const uint64_t count = uint64_t(grid.x) * grid.y * grid.z;
  if (race_detection()) machine.block_races().begin_launch(count);
  const uint64_t seed = order_seed();
  uint64_t stride = mixed(seed + 1) % count | 1;
  while (std::gcd(stride, count) != 1) ++stride;
  uint64_t block = mixed(seed + 2) % count;
  for (uint64_t i = 0; i < count; ++i) {
    const uint3 index = {unsigned(block % grid.x), unsigned(block / grid.x % grid.y),
                         unsigned(block / grid.x / grid.y)};
    machine.run_block({kernel, body, argument}, index, config.blockDim, mixed(seed + 3 * block));
    block = (block + stride) % count;
  }
  return cudaSuccess;
}

void guard_memory(void* begin, size_t bytes) {
  if (has_address_sanitizer()) __asan_poison_memory_region(begin, bytes);
}

void unguard_memory(void* begin, size_t bytes) {
  if (has_address_sanitizer()) __asan_unpoison_memory_region(begin, bytes);
}

int64_t limit(const char* name, int64_t otherwise) {
  return setting((std::string("FACENET_EMULATED_") + name).c_str(), otherwise);
}

void log(const char* what) {
  if (logging()) std::ofstream(std::getenv("FACENET_EMULATED_LOG"), std::ios::app) << what << '\n';
}

}  // namespace facenet::emulation

using namespace facenet::emulation;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    default:
      return "unknown error";
  }
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return cudaErrorInvalidValue;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = device_processors();
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = device_capability() / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = device_capability() % 10;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = device_shared_bytes();
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (value < 0 || value > device_shared_bytes()) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_shared_bytes[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  log("memset");
  if (bytes != 0) std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
