// Checks the arguments that triplet_losses and its backward share. The backend checks that the
// indices are rows, because on a GPU the host would have to wait for them.
#pragma once

#include <optional>

#include "common/checks.h"

namespace facenet {

inline void check_triplet_arguments(const Tensor& emb, const std::optional<Tensor>& ref_emb,
                                    const Tensor& anchor, const Tensor& positive,
                                    const Tensor& negative) {
  check_embeddings("emb", emb);
  if (ref_emb) {
    check_embeddings("ref_emb", *ref_emb);
    check_same_space("emb", emb, "ref_emb", *ref_emb);
  }
  const auto check_indices = [&](const char* argument, const Tensor& t) {
    check_index_vector(argument, t, anchor.numel());
    check_same_device("emb", emb, argument, t);
  };
  check_indices("anchor", anchor);
  check_indices("positive", positive);
  check_indices("negative", negative);
}

// The gradient of the losses, [T] in their type.
inline void check_loss_gradient(const Tensor& grad, const Tensor& emb, const Tensor& anchor) {
  check_given("grad", grad);
  const bool is_double = emb.scalar_type() == ScalarType::Double;
  FACENET_CHECK(grad.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                "grad: expected the type of the losses, ", is_double ? "float64" : "float32");
  FACENET_CHECK(grad.dim() == 1 && grad.size(0) == anchor.numel(), "grad: expected a vector of ",
                anchor.numel(), " entries, got ", grad.numel(), " in ", grad.dim(),
                " dimension(s)");
  check_same_device("emb", emb, "grad", grad);
}

}  // namespace facenet
