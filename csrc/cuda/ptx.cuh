// One wrapper for each instruction that has no spelling in CUDA C++. Kernels call these wrappers
// and hold no assembly.
//
// Where the architecture being compiled for lacks an instruction, its wrapper traps. The host never
// launches a kernel there that would reach it. The host emulation under tests/ replaces this file,
// and no other source of the kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace facenet::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define FACENET_FROM_SM80(...) __trap()
#else
#define FACENET_FROM_SM80(...) asm volatile(__VA_ARGS__)
#endif

// The block's dynamic shared memory, aligned to 128 bytes.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(128) unsigned char facenet_dynamic_shared_memory[];
  return facenet_dynamic_shared_memory;
}

// Copies 16 bytes from global to shared memory in the background, both aligned to 16. Only the
// first `bytes` are read; the others are set to zero.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes) {
  [[maybe_unused]] const uint32_t to = uint32_t(__cvta_generic_to_shared(shared));
  FACENET_FROM_SM80("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global),
                    "r"(bytes) : "memory");
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void cp_async_commit() {
  FACENET_FROM_SM80("cp.async.commit_group;\n" :: : "memory");
}

// Waits until at most `kPending` of this thread's groups are under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  FACENET_FROM_SM80("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements, one per register. Lane l passes the address of row l % 8 of
// matrix l / 8 (16 bytes, aligned); it receives, of each matrix, elements 2 * (l % 4) and the next
// of row l / 4.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&matrices)[4], const void* row) {
  [[maybe_unused]] const uint32_t from = uint32_t(__cvta_generic_to_shared(row));
  FACENET_FROM_SM80(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n" : "=r"(matrices[0]),
      "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3]) : "r"(from) : "memory");
}

// c += a * b for one warp. Lane l, g = l / 4, t = l % 4:
//   c [16, 8]   (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
//   a [16, 16]  (g, 2t..), (g+8, 2t..), (g, 2t+8..), (g+8, 2t+8..), two elements per register
//   b [16, 8]   (2t.., g), (2t+8.., g), two elements per register
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], const __nv_bfloat16*) {
  FACENET_FROM_SM80(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n" : "+f"(c[0]),
      "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
      "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], const __half*) {
  FACENET_FROM_SM80(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n" : "+f"(c[0]),
      "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
      "r"(b[1]));
}

// The same on TF32 (float32 words of which the upper 19 bits are read).
//   a [16, 8]  (g, t), (g+8, t), (g, t+4), (g+8, t+4);  b [8, 8]  (t, g), (t+4, g)
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  FACENET_FROM_SM80(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n" : "+f"(c[0]),
      "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
      "r"(b[1]));
}

// min(a + b, c), modulo 2^32: one instruction on sm_90 and later, two below.
__device__ __forceinline__ uint32_t add_min(uint32_t a, uint32_t b, uint32_t c) {
  return __viaddmin_u32(a, b, c);
}

// A bucket in an array of them in shared memory, known by 32 bits: no arithmetic leads to its words
// and to those near by. Other threads may be lowering a distance or a row at this moment.
class SharedBucket {
 public:
  struct Words {  // an odd number of them, so that buckets begin in different banks
    float threshold;
    uint32_t closest, row;
  };

  SharedBucket() = default;
  __device__ __forceinline__ explicit SharedBucket(const Words* array)
      : address_(uint32_t(__cvta_generic_to_shared(array))) {}

  __device__ __forceinline__ void move(int32_t buckets) { address_ += kBytes * buckets; }
  // Of the bucket so far behind.
  __device__ __forceinline__ float threshold(int32_t behind) const {
    float x;
    asm volatile("ld.shared.f32 %0, [%1];\n"
                 : "=f"(x)
                 : "r"(address_ + kBytes * behind)
                 : "memory");
    return x;
  }
  __device__ __forceinline__ uint32_t closest() const {
    uint32_t x;
    asm volatile("ld.volatile.shared.u32 %0, [%1 + 4];\n" : "=r"(x) : "r"(address_) : "memory");
    return x;
  }
  __device__ __forceinline__ void lower_closest_and_forget_row(uint32_t to) const {
    asm volatile("red.shared.min.u32 [%0 + 4], %1;\n" ::"r"(address_), "r"(to) : "memory");
    asm volatile("red.shared.or.b32 [%0 + 8], %1;\n" ::"r"(address_), "r"(~0u) : "memory");
  }
  __device__ __forceinline__ void lower_row(uint32_t to) const {
    asm volatile("red.shared.min.u32 [%0 + 8], %1;\n" ::"r"(address_), "r"(to) : "memory");
  }

 private:
  static constexpr int32_t kBytes = sizeof(Words);
  uint32_t address_;
};

// A look at a word that other threads may be changing by atomics at this moment.
template <class Word>
__device__ __forceinline__ Word load_relaxed(const Word* word) {
  return *static_cast<const volatile Word*>(word);
}

}  // namespace facenet::cuda
