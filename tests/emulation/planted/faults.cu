// Kernels with a mistake each (kWrong), and without it. Those that share memory work on `data` of
// 64 ints in blocks of 64 threads.
#include "cuda/ptx.cuh"
#include "planted.h"

namespace {

using facenet::cuda::cp_async_16;
using facenet::cuda::cp_async_commit;
using facenet::cuda::cp_async_wait;
using facenet::cuda::dynamic_shared_memory;

__device__ int* shared_ints() { return reinterpret_cast<int*>(dynamic_shared_memory()); }

// Each thread reads its neighbour's element.
template <bool kWrong>
__global__ void missing_barrier(int* data) {
  int* shared = shared_ints();
  shared[threadIdx.x] = data[threadIdx.x];
  if (!kWrong) __syncthreads();
  data[threadIdx.x] = shared[(threadIdx.x + 32) % 64];
}

// The same in static memory.
template <bool kWrong>
__global__ void missing_barrier_static(int* data) {
  __shared__ int shared[64];
  shared[threadIdx.x] = data[threadIdx.x];
  if (!kWrong) __syncthreads();
  data[threadIdx.x] = shared[(threadIdx.x + 32) % 64];
}

// The buffer is filled again while others still read it.
template <bool kWrong>
__global__ void missing_second_barrier(int* data) {
  int* shared = shared_ints();
  int sum = 0;
  for (int step = 0; step < 3; ++step) {
    shared[threadIdx.x] = data[threadIdx.x] + step;
    __syncthreads();
    sum += shared[63 - threadIdx.x];
    if (!kWrong) __syncthreads();
  }
  data[threadIdx.x] = sum;
}

// A count that some update atomically and one reads.
template <bool kWrong>
__global__ void atomic_and_plain(int* data) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1);
  if (!kWrong) __syncthreads();
  data[threadIdx.x] = count;
}

// Words that are looked at while they change: atomically on both sides (right).
template <bool kWrong>
__global__ void atomic_load_and_plain_store(int* data) {
  __shared__ int best;
  if (threadIdx.x == 0) best = 0;
  __syncthreads();
  if (facenet::cuda::load_relaxed(&best) < int(threadIdx.x)) {
    if (kWrong)
      best = int(threadIdx.x);
    else
      atomicMax(&best, int(threadIdx.x));
  }
  __syncthreads();
  data[threadIdx.x] = best;
}

// A variable whose address nobody takes.
template <bool kWrong>
__global__ void plain_scalar(int* data) {
  __shared__ int chosen;
  if (threadIdx.x == 37) chosen = data[threadIdx.x];
  if (!kWrong) __syncthreads();
  data[threadIdx.x] = chosen;
}

// Each block writes its own elements (right), or all the same.
template <bool kWrong>
__global__ void blocks_write_the_same(int* data) {
  if (threadIdx.x < 32) data[threadIdx.x + (kWrong ? 0 : 32 * blockIdx.x)] = int(blockIdx.x);
}

// The last block adds up what all have written: a fence, an atomic update, a fence.
template <bool kWrong>
__global__ void last_block_sums(int* data) {
  if (threadIdx.x != 0) return;
  data[1 + blockIdx.x] = int(blockIdx.x);
  if (!kWrong) __threadfence();
  if (atomicAdd(&data[0], 1) + 1 < int(gridDim.x)) return;
  __threadfence();
  data[63] = data[1] + data[2];
}

// What a block writes again after its atomic update the last block does not wait for.
template <bool kWrong>
__global__ void written_after_release(int* data) {
  if (threadIdx.x != 0) return;
  data[1 + blockIdx.x] = int(blockIdx.x);
  __threadfence();
  const bool is_last = atomicAdd(&data[0], 1) + 1 == int(gridDim.x);
  if (kWrong) data[1 + blockIdx.x] = 7;
  if (!is_last) return;
  __threadfence();
  data[63] = data[1] + data[2];
}

// Lanes of a warp, which do not run in step.
template <bool kWrong>
__global__ void missing_syncwarp(int* data) {
  int* shared = shared_ints();
  shared[threadIdx.x] = data[threadIdx.x];
  if (!kWrong) __syncwarp();
  data[threadIdx.x] = shared[threadIdx.x ^ 1];
}

// A shuffle is no memory barrier.
template <bool kWrong>
__global__ void shuffle_for_barrier(int* data) {
  int* shared = shared_ints();
  shared[threadIdx.x] = data[threadIdx.x];
  const int other = __shfl_xor_sync(0xffffffff, data[threadIdx.x], 1);
  if (!kWrong) __syncwarp();
  data[threadIdx.x] = shared[threadIdx.x ^ 1] - other;
}

// Pairs of lanes wait for each other (right), or each lane for itself.
template <bool kWrong>
__global__ void syncwarp_of_some(int* data) {
  int* shared = shared_ints();
  shared[threadIdx.x] = data[threadIdx.x];
  const unsigned lane = threadIdx.x % 32;
  __syncwarp(kWrong ? 1u << lane : 3u << (lane & ~1u));
  data[threadIdx.x] = shared[threadIdx.x ^ 1];
}

// Two threads write the two halves of a word (right), or both the same half.
template <bool kWrong>
__global__ void halves_of_words(int* data) {
  auto* shared = reinterpret_cast<unsigned short*>(dynamic_shared_memory());
  shared[kWrong ? threadIdx.x / 2 : threadIdx.x] = static_cast<unsigned short>(threadIdx.x);
  __syncthreads();
  data[threadIdx.x] = shared[threadIdx.x];
}

template <bool kWrong>
__global__ void shared_out_of_bounds(int* data) {
  int* shared = shared_ints();
  shared[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = shared[threadIdx.x + (kWrong ? 1 : 0)];
}

template <bool kWrong>
__global__ void shared_below_bounds(int* data) {
  int* shared = shared_ints();
  data[threadIdx.x] = (shared[threadIdx.x] = 1);
  if (threadIdx.x == 5) shared[int(threadIdx.x) - (kWrong ? 6 : 0)] = 2;
}

template <bool kWrong>
__global__ void static_out_of_bounds(int* data) {
  __shared__ int shared[64];
  shared[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = shared[threadIdx.x + (kWrong ? 1 : 0)];
}

template <bool kWrong>
__global__ void global_out_of_bounds(int* data) {
  const int value = data[threadIdx.x + (kWrong ? 1 : 0)];
  __syncthreads();
  data[threadIdx.x] = value;
}

template <bool kWrong>
__global__ void atomic_out_of_bounds(int* data) {
  atomicAdd(&data[threadIdx.x + (kWrong ? 1 : 0)], 1);
}

template <bool kWrong>
__global__ void misaligned_vector(int* data) {
  const int2 pair = *reinterpret_cast<const int2*>(data + threadIdx.x / 2 * 2 + (kWrong ? 1 : 0));
  __syncthreads();
  data[threadIdx.x] = threadIdx.x % 2 == 0 ? pair.x : pair.y;
}

// Half of the block waits in another barrier.
template <bool kWrong>
__global__ void divergent_barrier(int* data) {
  if (kWrong && threadIdx.x >= 40)
    data[threadIdx.x] = __syncthreads_or(1);
  else
    __syncthreads();
}

// Some lanes never come, others wait for the block.
template <bool kWrong>
__global__ void missing_lanes(int* data) {
  if (kWrong && threadIdx.x < 8) return;
  if (kWrong && threadIdx.x == 9) __syncthreads();
  data[threadIdx.x] = __shfl_sync(0xffffffff, data[threadIdx.x], 9);
}

template <bool kWrong>
__global__ void mask_without_self(int* data) {
  data[threadIdx.x] = __any_sync(kWrong ? 0x7fffffff : 0xffffffff, int(threadIdx.x));
}

// Half of a warp comes with one mask, half with another.
template <bool kWrong>
__global__ void different_masks(int* data) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0x0000ffff : 0xffff0000;
  data[threadIdx.x] = __shfl_sync(kWrong && threadIdx.x % 32 < 16 ? 0xffffffff : mask, 1, 0);
}

// A copy in the background is used before it is there: by the thread that asked for it.
template <bool kWrong>
__global__ void copy_before_wait(int* data) {
  int* shared = shared_ints();
  cp_async_16(shared + 4 * threadIdx.x, data + threadIdx.x % 16 * 4, 16);
  cp_async_commit();
  cp_async_wait<kWrong ? 1 : 0>();
  const int value = shared[4 * threadIdx.x + threadIdx.x / 16];
  __syncthreads();
  data[threadIdx.x % 16 * 4 + threadIdx.x / 16] = value;
}

// Each thread has waited for its own copies, but not for the others'.
template <bool kWrong>
__global__ void copy_without_barrier(int* data) {
  int* shared = shared_ints();
  if (threadIdx.x < 16) cp_async_16(shared + 4 * threadIdx.x, data + 4 * threadIdx.x, 16);
  cp_async_commit();
  cp_async_wait<0>();
  if (!kWrong) __syncthreads();
  const int value = shared[threadIdx.x];
  data[threadIdx.x] = value;
}

template <bool kWrong>
__global__ void copy_misaligned(int* data) {
  cp_async_16(dynamic_shared_memory() + 16 * threadIdx.x, data + (kWrong ? 2 : 0), 16);
  cp_async_commit();
  cp_async_wait<0>();
}

template <bool kWrong>
__global__ void copy_out_of_bounds(int* data) {
  cp_async_16(dynamic_shared_memory() + 16 * threadIdx.x, data + 60 + (kWrong ? 4 : 0), 16);
  cp_async_commit();
  cp_async_wait<0>();
}

template <bool kWrong>
__global__ void trap(int* data) {
  if (kWrong && data[threadIdx.x] == 7) __trap();
}

}  // namespace

#define FAULT(name, blocks, shared_bytes)                                         \
  PLANTED int wrong_##name(int* data) {                                           \
    return planted::run(name<true>, dim3(blocks), dim3(64), shared_bytes, data);  \
  }                                                                               \
  PLANTED int right_##name(int* data) {                                           \
    return planted::run(name<false>, dim3(blocks), dim3(64), shared_bytes, data); \
  }

FAULT(missing_barrier, 1, 256)
FAULT(missing_barrier_static, 1, 0)
FAULT(missing_second_barrier, 1, 256)
FAULT(atomic_and_plain, 1, 0)
FAULT(atomic_load_and_plain_store, 1, 0)
FAULT(plain_scalar, 1, 0)
FAULT(blocks_write_the_same, 2, 0)
FAULT(last_block_sums, 2, 0)
FAULT(written_after_release, 2, 0)
FAULT(missing_syncwarp, 1, 256)
FAULT(shuffle_for_barrier, 1, 256)
FAULT(syncwarp_of_some, 1, 256)
FAULT(halves_of_words, 1, 128)
FAULT(shared_out_of_bounds, 1, 256)
FAULT(shared_below_bounds, 1, 256)
FAULT(static_out_of_bounds, 1, 0)
FAULT(global_out_of_bounds, 1, 0)
FAULT(atomic_out_of_bounds, 1, 0)
FAULT(misaligned_vector, 1, 0)
FAULT(divergent_barrier, 1, 0)
FAULT(missing_lanes, 1, 0)
FAULT(mask_without_self, 1, 0)
FAULT(different_masks, 1, 0)
FAULT(copy_before_wait, 1, 1024)
FAULT(copy_without_barrier, 1, 256)
FAULT(copy_misaligned, 1, 1024)
FAULT(copy_out_of_bounds, 1, 1024)
FAULT(trap, 1, 0)
