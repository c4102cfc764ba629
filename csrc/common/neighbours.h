// The fronts of the operators that look for neighbours: see labelled_operators.h.
#pragma once

#include <optional>
#include <tuple>

#include "common/options.h"

namespace facenet {

// The rows that neighbours are looked for among.
struct NeighbourArguments {
  const Tensor& emb;
  const std::optional<Tensor>& ref_emb;  // none: emb itself, where no row is its own neighbour
  Distance distance;

  int64_t candidates() const { return ref_emb ? ref_emb->size(0) : emb.size(0); }
};

struct NearestArguments {
  NeighbourArguments rows;
  int64_t k;
};

struct PairsWithinArguments {
  NeighbourArguments rows;
  double radius;
  int64_t capacity;
};

using Neighbours = std::tuple<Tensor, Tensor>;             // distances, indices
using PairsAndCount = std::tuple<Tensor, Tensor, Tensor>;  // pairs, distances, count

namespace front {

template <Neighbours (*kernel)(const NearestArguments&)>
Neighbours nearest(const Tensor& emb, const std::optional<Tensor>& ref_emb, int64_t k,
                   const std::string& distance) {
  constexpr int64_t kMost = 1024;
  const NeighbourArguments rows{emb, ref_emb, parse_distance(distance)};
  check_sides("emb", emb, "ref_emb", ref_emb);
  FACENET_CHECK(k >= 1 && k <= kMost, "k: expected 1 to ", kMost, ", got ", k);
  return kernel({rows, k});
}

template <PairsAndCount (*kernel)(const PairsWithinArguments&)>
PairsAndCount pairs_within(const Tensor& emb, const std::optional<Tensor>& ref_emb, double radius,
                           const std::string& distance, int64_t capacity) {
  constexpr int64_t kMost = int64_t(1) << 30;
  const NeighbourArguments rows{emb, ref_emb, parse_distance(distance)};
  check_sides("emb", emb, "ref_emb", ref_emb);
  FACENET_CHECK(capacity >= 0 && capacity <= kMost, "capacity: expected 0 to ", kMost, ", got ",
                capacity);
  return kernel({rows, radius, capacity});
}

}  // namespace front
}  // namespace facenet
