// The twin of the product's header: the same wrappers, on the emulation's runtime.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace facenet::cuda {

inline unsigned char* dynamic_shared_memory() { return emulation::dynamic_shared_memory(); }

__forceinline__ void cp_async_16(void* shared, const void* global, int bytes) {
  emulation::copy_async(shared, global, bytes);
}

__forceinline__ void cp_async_commit() { emulation::commit_copies(); }

template <int kPending>
__forceinline__ void cp_async_wait() {
  emulation::wait_for_copies(kPending);
}

__forceinline__ void ldmatrix_x4(uint32_t (&matrices)[4], const void* row) {
  emulation::load_matrices(matrices, row);
}

__forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  const __nv_bfloat16*) {
  emulation::multiply_matrices(emulation::MatrixType::kBfloat16, c, a, b);
}

__forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  const __half*) {
  emulation::multiply_matrices(emulation::MatrixType::kHalf, c, a, b);
}

__forceinline__ void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4],
                                      const uint32_t (&b)[2]) {
  emulation::multiply_matrices(emulation::MatrixType::kTf32, c, a, b);
}

inline uint32_t add_min(uint32_t a, uint32_t b, uint32_t c) { return __viaddmin_u32(a, b, c); }

template <class Word>
__forceinline__ Word load_relaxed(const Word* word) {
  static_assert(sizeof(Word) == 4 || sizeof(Word) == 8, "32 or 64 bits");
  Word value;
  emulation::atomic_load(word, &value, sizeof value);
  return value;
}

class SharedBucket {
 public:
  struct Words {
    float threshold;
    uint32_t closest, row;
  };

  SharedBucket() = default;
  explicit SharedBucket(Words* array) : at_(array) {}

  void move(int32_t buckets) { at_ += buckets; }
  float threshold(int32_t behind) const { return at_[behind].threshold; }
  uint32_t closest() const { return load_relaxed(&at_->closest); }
  void lower_closest_and_forget_row(uint32_t to) const {
    atomicMin(&at_->closest, to);
    atomicOr(&at_->row, ~0u);
  }
  void lower_row(uint32_t to) const { atomicMin(&at_->row, to); }

 private:
  Words* at_;
};

}  // namespace facenet::cuda
