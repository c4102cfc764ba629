// Kernels that use one instruction or a few, for comparison with what Python says they do.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <vector>

#include "cuda/ptx.cuh"
#include "planted.h"

namespace {

using namespace facenet::cuda;

struct Matrices {
  const void* a;  // [16, 16]; TF32: [16, 8]
  const void* b;  // [16, 16], a column of the product's right side per row; TF32: [16, 8]
  float* c;       // [16, 16], added to
};

// c += a b^T by one warp: rows of 32 bytes, through cp.async, ldmatrix and mma.
template <class T>
__global__ void multiply(Matrices* on) {
  unsigned char* shared = dynamic_shared_memory();
  const int lane = int(threadIdx.x);
  for (int side = 0; side < 2; ++side) {
    const auto* from = static_cast<const unsigned char*>(side == 0 ? on->a : on->b);
    cp_async_16(shared + 512 * side + 16 * lane, from + 16 * lane, 16);
  }
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  // Matrices of 8 rows of 16 bytes; a: upper left, lower left, upper right, lower right; b: the
  // first two belong to the first eight columns of c.
  const int matrix = lane / 8, row = lane % 8;
  uint32_t a[4], b[4];
  ldmatrix_x4(a, shared + 32 * (row + 8 * (matrix % 2)) + 16 * (matrix / 2));
  ldmatrix_x4(b, shared + 512 + 32 * (row + 8 * (matrix / 2)) + 16 * (matrix % 2));
  for (int half = 0; half < 2; ++half) {
    const uint32_t columns[2] = {b[2 * half], b[2 * half + 1]};
    float c[4];
    float* to = on->c + lane / 4 * 16 + lane % 4 * 2 + 8 * half;
    for (int i = 0; i < 4; ++i) c[i] = to[i / 2 * 128 + i % 2];
    if constexpr (sizeof(T) == 2)
      mma_m16n8k16(c, a, columns, static_cast<const T*>(nullptr));
    else
      mma_m16n8k8_tf32(c, a, columns);
    for (int i = 0; i < 4; ++i) to[i / 2 * 128 + i % 2] = c[i];
  }
}

// One warp, its values in data[0..31]; result i of lane l goes to data[32 * (1 + i) + l].
__global__ void collectives(int* data) {
  const int lane = int(threadIdx.x), value = data[lane];
  int next = 0;
  const auto put = [&](int result) { data[32 * ++next + lane] = result; };
  const unsigned all = 0xffffffff, mine = lane < 16 ? 0x0000ffff : 0xffff0000;
  put(__shfl_sync(all, value, lane * 7));
  put(__shfl_sync(all, value, 3, 8));
  put(__shfl_up_sync(all, value, 5));
  put(__shfl_down_sync(all, value, 2, 8));
  put(__shfl_xor_sync(all, value, 9));
  put(int(__shfl_xor_sync(all, double(value), 1)));
  put(int(__ballot_sync(all, value % 2)));
  put(__any_sync(mine, value == data[20]));
  put(__all_sync(mine, value >= data[0]));
  put(int(__match_any_sync(all, value % 3)));
  put(__reduce_add_sync(mine, value));
  put(__reduce_min_sync(all, value));
  put(__reduce_max_sync(all, value));
  put(int(__reduce_or_sync(mine, unsigned(value))));
}

// data[0..3]: sum, least, greatest and, by compare-and-swap, the number of threads.
__global__ void atomics(int* data) {
  const int value = int((blockIdx.x * blockDim.x + threadIdx.x) * 2654435761u >> 8);
  atomicAdd(&data[0], value % 1000);
  atomicMin(&data[1], value);
  atomicMax(&data[2], value);
  for (int old = data[3], found;; old = found) {
    found = atomicCAS(&data[3], old, old + 1);
    if (found == old) break;
  }
  const int votes = __syncthreads_count(threadIdx.x % 3 == 0);
  const int any = __syncthreads_or(threadIdx.x == 77), none = __syncthreads_and(threadIdx.x != 5);
  if (threadIdx.x == 0) data[4] = votes + 1000 * any + 2000 * none;
}

// A sum of the block, as kernels do it; and, in data[257], who came last.
__global__ void sum_of_block(int* data) {
  __shared__ int partial[8];
  int sum = data[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < 8 ? partial[threadIdx.x] : 0;
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (threadIdx.x == 0) data[256] = sum;
  }
  atomicExch(&data[257], int(threadIdx.x));
}

// Whether a block finds NaN in its shared memory, whatever the one before it left there.
__global__ void fresh_memory(int* data) {
  auto* shared = reinterpret_cast<float*>(dynamic_shared_memory());
  data[blockIdx.x * 64 + threadIdx.x] = shared[threadIdx.x] != shared[threadIdx.x];
  shared[threadIdx.x] = 1.0f;
}

__global__ void nothing(int*) {}

}  // namespace

PLANTED int multiply_bf16(Matrices* on) {
  return planted::run(multiply<__nv_bfloat16>, dim3(1), dim3(32), 1024, on);
}
PLANTED int multiply_f16(Matrices* on) {
  return planted::run(multiply<__half>, dim3(1), dim3(32), 1024, on);
}
PLANTED int multiply_tf32(Matrices* on) {
  return planted::run(multiply<float>, dim3(1), dim3(32), 1024, on);
}
PLANTED int run_collectives(int* data) {
  return planted::run(collectives, dim3(1), dim3(32), 0, data);
}
PLANTED int run_atomics(int* data) { return planted::run(atomics, dim3(5), dim3(256), 0, data); }
PLANTED int run_sum(int* data) { return planted::run(sum_of_block, dim3(1), dim3(256), 0, data); }
PLANTED int run_fresh(int* data) {
  return planted::run(fresh_memory, dim3(4), dim3(64), 256, data);
}

// A launch with this much shared memory, asked for or not.
PLANTED int run_large(int bytes, int asked) {
  cudaLaunchConfig_t config = {};
  config.dynamicSmemBytes = size_t(bytes);
  if (asked != 0) {
    const cudaError_t status =
        cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return status;
  }
  return cudaLaunchKernelEx(&config, nothing, static_cast<int*>(nullptr));
}

PLANTED void convert(const float* from, long long count, unsigned short* bf16,
                     unsigned short* f16) {
  for (long long i = 0; i < count; ++i) {
    bf16[i] = __bfloat16_as_ushort(__float2bfloat16_rn(from[i]));
    f16[i] = __half_as_ushort(__float2half_rn(from[i]));
  }
}

PLANTED void widen(const unsigned short* from, long long count, float* bf16, float* f16) {
  for (long long i = 0; i < count; ++i) {
    bf16[i] = __bfloat162float(__ushort_as_bfloat16(from[i]));
    f16[i] = __half2float(__ushort_as_half(from[i]));
  }
}

PLANTED int sort_pairs(const long long* keys, long long* sorted, const int* values, int* order,
                       int count, int begin_bit, int end_bit) {
  size_t bytes = 0;
  if (cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, sorted, values, order, count, begin_bit,
                                      end_bit) != cudaSuccess)
    return 1;
  std::vector<char> temporary(bytes);
  return cub::DeviceRadixSort::SortPairs(temporary.data(), bytes, keys, sorted, values, order,
                                         count, begin_bit, end_bit);
}

PLANTED int scan(const int* in, long long* exclusive, long long* inclusive, int count) {
  size_t bytes = 0;
  cub::DeviceScan::ExclusiveSum(nullptr, bytes, in, exclusive, count);
  std::vector<char> temporary(bytes);
  if (cub::DeviceScan::ExclusiveSum(temporary.data(), bytes, in, exclusive, count) != cudaSuccess)
    return 1;
  return cub::DeviceScan::InclusiveSum(temporary.data(), bytes, in, inclusive, count);
}
