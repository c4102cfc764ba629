// The fronts of triplet_losses and its backward: see labelled_operators.h.
#pragma once

#include <optional>
#include <tuple>

#include "common/options.h"

namespace facenet {

// Triplets of rows, and the loss of each. The backend checks that the indices are rows: on a GPU
// the host would have to synchronise to know.
struct TripletLossesArguments {
  const Tensor& emb;
  const std::optional<Tensor>& ref_emb;
  const Tensor &anchor, &positive, &negative;  // [T]
  double margin;
  Distance distance;
  bool smooth, swap;

  void check() const {
    check_sides("emb", emb, "ref_emb", ref_emb);
    const auto check_indices = [&](const char* argument, const Tensor& t) {
      check_index_vector(argument, t, anchor.numel());
      check_same_device("emb", emb, argument, t);
    };
    check_indices("anchor", anchor);
    check_indices("positive", positive);
    check_indices("negative", negative);
  }

  // The gradient of the losses, [T] in their type.
  void check_gradient(const Tensor& grad) const {
    check_given("grad", grad);
    const bool is_double = emb.scalar_type() == ScalarType::Double;
    FACENET_CHECK(grad.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                  "grad: expected the type of the losses, ", is_double ? "float64" : "float32");
    FACENET_CHECK(grad.dim() == 1 && grad.size(0) == anchor.numel(), "grad: expected a vector of ",
                  anchor.numel(), " entries, got ", grad.numel(), " in ", grad.dim(),
                  " dimension(s)");
    check_same_device("emb", emb, "grad", grad);
  }
};

using EmbeddingGradients = std::tuple<Tensor, Tensor>;  // of emb and of ref_emb

namespace front {

template <Tensor (*kernel)(const TripletLossesArguments&)>
Tensor triplet_losses(const Tensor& emb, const std::optional<Tensor>& ref_emb, const Tensor& anchor,
                      const Tensor& positive, const Tensor& negative, double margin,
                      const std::string& distance, bool smooth, bool swap) {
  const TripletLossesArguments arguments{
      emb, ref_emb, anchor, positive, negative, margin, parse_distance(distance), smooth, swap};
  arguments.check();
  return kernel(arguments);
}

template <EmbeddingGradients (*kernel)(const TripletLossesArguments&, const Tensor& grad)>
EmbeddingGradients triplet_losses_backward(const Tensor& grad, const Tensor& emb,
                                           const std::optional<Tensor>& ref_emb,
                                           const Tensor& anchor, const Tensor& positive,
                                           const Tensor& negative, double margin,
                                           const std::string& distance, bool smooth, bool swap) {
  const TripletLossesArguments arguments{
      emb, ref_emb, anchor, positive, negative, margin, parse_distance(distance), smooth, swap};
  arguments.check();
  arguments.check_gradient(grad);
  return kernel(arguments, grad);
}

}  // namespace front
}  // namespace facenet
