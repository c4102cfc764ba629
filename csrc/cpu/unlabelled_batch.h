// All pairs of rows in the caller's order, owned in one place, for operators that see no classes.
#pragma once

#include "common/neighbours.h"
#include "cpu/rows.h"

namespace facenet::cpu {

template <class T>
class UnlabelledBatch {
 public:
  explicit UnlabelledBatch(const NeighbourArguments& a)
      : emb_(a.emb, a.distance), set_({emb_, nullptr, nullptr}, bank(a), a.distance) {}

  const Pairs<T>& pairs() const { return set_.pairs(); }

 private:
  std::optional<typename PairSet<T>::Side> bank(const NeighbourArguments& a) {
    if (!a.ref_emb) return std::nullopt;
    return typename PairSet<T>::Side{ref_.emplace(*a.ref_emb, a.distance), nullptr, nullptr};
  }

  Rows<T> emb_;
  std::optional<Rows<T>> ref_;
  PairSet<T> set_;
};

}  // namespace facenet::cpu
