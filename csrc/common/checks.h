// Checks of the operators' arguments. A message names the argument, and says what was expected and
// what came. The Python layer checks first, and raises ValueError and TypeError. The checks here
// are for callers of torch.ops.facenet_ext, and raise RuntimeError.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <limits>
#include <optional>

namespace facenet {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#define FACENET_CHECK(condition, ...) STD_TORCH_CHECK(condition, __VA_ARGS__)

inline bool is_embedding_type(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

// The type of distances, losses and gradients that the kernels compute. Python casts a gradient to
// the embeddings' type.
template <class T>
constexpr ScalarType kValueType = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;

// A caller of torch.ops may pass None for a tensor: the operator receives an undefined one.
inline void check_given(const char* argument, const Tensor& t) {
  FACENET_CHECK(t.defined(), argument, ": expected a tensor, got none");
}

inline void check_embeddings(const char* argument, const Tensor& t) {
  check_given(argument, t);
  FACENET_CHECK(t.dim() == 2, argument, ": expected a matrix [rows, dim], got ", t.dim(),
                " dimension(s)");
  FACENET_CHECK(is_embedding_type(t.scalar_type()), argument,
                ": expected float32, float64, float16 or bfloat16");
  // Kernels count rows and columns in int32, and may count up to 1,024 beyond the last.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - 1024;
  FACENET_CHECK(t.size(0) <= kMost && t.size(1) <= kMost, argument, ": expected at most ", kMost,
                " rows and columns, got ", t.size(0), " and ", t.size(1));
}

inline void check_same_device(const char* a_name, const Tensor& a, const char* b_name,
                              const Tensor& b) {
  FACENET_CHECK(a.get_device_index() == b.get_device_index(), b_name,
                ": expected it on the device of ", a_name, ", ", a.get_device_index(), ", got ",
                b.get_device_index());
}

inline void check_same_space(const char* a_name, const Tensor& a, const char* b_name,
                             const Tensor& b) {
  FACENET_CHECK(a.size(1) == b.size(1), b_name, ": expected ", a.size(1), " columns as ", a_name,
                " has, got ", b.size(1));
  FACENET_CHECK(a.scalar_type() == b.scalar_type(), b_name, ": expected the dtype of ", a_name);
  check_same_device(a_name, a, b_name, b);
}

// Embeddings, and those of a bank that they are compared with, if there is one.
inline void check_sides(const char* a_name, const Tensor& a, const char* b_name,
                        const std::optional<Tensor>& b) {
  check_embeddings(a_name, a);
  if (!b) return;
  check_embeddings(b_name, *b);
  check_same_space(a_name, a, b_name, *b);
}

// An int64 vector with one entry per row: labels, ids, indices.
inline void check_index_vector(const char* argument, const Tensor& t, int64_t size) {
  check_given(argument, t);
  FACENET_CHECK(t.scalar_type() == ScalarType::Long, argument, ": expected int64");
  FACENET_CHECK(t.dim() == 1 && t.size(0) == size, argument, ": expected a vector of ", size,
                " entries, got ", t.numel(), " in ", t.dim(), " dimension(s)");
}

// Calls f with a value of the type that embeddings of this dtype are computed in.
template <class F>
auto dispatch_compute_type(ScalarType type, F&& f) {
  return type == ScalarType::Double ? f(double()) : f(float());
}

// A gradient for the kernels to fill, [rows, D], or an empty tensor where nobody asks for it.
inline Tensor empty_gradient(const Tensor& emb, ScalarType type, bool wanted, int64_t rows) {
  return torch::stable::new_empty(emb, {wanted ? rows : 0, emb.size(1)}, type);
}

}  // namespace facenet
