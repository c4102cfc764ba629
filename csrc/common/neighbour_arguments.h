// The rows that neighbours are looked for among, checked.
#pragma once

#include <optional>

#include "common/options.h"

namespace facenet {

struct NeighbourArguments {
  const Tensor& emb;
  const std::optional<Tensor>& ref_emb;  // none: emb itself, where no row is its own neighbour
  Distance distance;

  void check() const {
    check_embeddings("emb", emb);
    if (ref_emb) {
      check_embeddings("ref_emb", *ref_emb);
      check_same_space("emb", emb, "ref_emb", *ref_emb);
    }
  }
  int64_t candidates() const { return ref_emb ? ref_emb->size(0) : emb.size(0); }
};

inline void check_neighbour_count(int64_t k) {
  constexpr int64_t kMost = 1024;
  FACENET_CHECK(k >= 1 && k <= kMost, "k: expected 1 to ", kMost, ", got ", k);
}

inline void check_capacity(int64_t capacity) {
  constexpr int64_t kMost = int64_t(1) << 30;
  FACENET_CHECK(capacity >= 0 && capacity <= kMost, "capacity: expected 0 to ", kMost, ", got ",
                capacity);
}

}  // namespace facenet
