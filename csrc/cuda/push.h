// The gradient over all pairs, as an operator sees it: push.cuh has the kernel.
#pragma once

#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/pair_grid.h"
#include "cuda/workspace.h"

namespace facenet::cuda {

constexpr int kPushTile = 64;

// A pass over every pair from one side's rows.
template <class T>
struct PushPass {
  PushPass(const Device& device_, const Rows<T>& rows, const Rows<T>& columns) : device(device_) {
    pairs.anchors = rows;
    pairs.candidates = columns;
    if (rows.count > 0 && columns.count > 0) {
      // A few stripes: each has a gradient of its own.
      grid = grid_of(device, pairs, kPushTile, kPushTile, 2, stripes);
    }
  }
  int64_t stripe_count() const { return grid.y; }

  const Device& device;
  Pairs<T> pairs{};
  Stripes stripes{};
  dim3 grid{0, 0, 1};
};

// The stripes of a pass' gradient, cleared at first, until they are gathered.
template <class T>
class PartialGradient {
 public:
  PartialGradient(const PushPass<T>& pass, bool wanted)
      : pass_(pass), bytes_(wanted ? bytes_of(pass) : 0), memory_(pass.device, bytes_) {
    if (bytes_ == 0) return;
    check_cuda(cudaMemsetAsync(memory_.data(), 0, bytes_, pass.device.stream()),
               "clearing gradients");
  }

  T* data() const { return bytes_ > 0 ? reinterpret_cast<T*>(memory_.data()) : nullptr; }

  // Has gather() add the stripes to the gradient of the pass' rows.
  void add_to(Gathered<T>& gathered) const {
    gathered.rows = pass_.pairs.anchors;
    gathered.others = pass_.pairs.candidates;
    gathered.partial = data();
    gathered.partials = bytes_ > 0 ? int32_t(pass_.stripe_count()) : 0;
  }

 private:
  static size_t bytes_of(const PushPass<T>& pass) {
    const Rows<T>& rows = pass.pairs.anchors;
    return size_t(pass.stripe_count()) * size_t(rows.count) * size_t(rows.dim) * sizeof(T);
  }

  const PushPass<T>& pass_;
  const size_t bytes_;
  const Memory memory_;
};

}  // namespace facenet::cuda
