// What the operators, which have tensors, give to the kernels, which have pointers.
#pragma once

#include "common/checks.h"
#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

// The rows of a tensor in their own type and the caller's order.
template <class T>
Rows<T> rows_of(const Tensor& contiguous, Distance distance) {
  Element element = Element::kFloat;
  if (contiguous.scalar_type() == ScalarType::Double) element = Element::kDouble;
  if (contiguous.scalar_type() == ScalarType::Half) element = Element::kHalf;
  if (contiguous.scalar_type() == ScalarType::BFloat16) element = Element::kBFloat16;
  const void* data = contiguous.data_ptr();
  const bool aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  return {data,    nullptr,  nullptr, int32_t(contiguous.size(0)), int32_t(contiguous.size(1)),
          element, distance, aligned};
}

template <class T>
T* data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

}  // namespace facenet::cuda
