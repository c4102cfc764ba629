// select_triplets on CUDA: the selection, listed in the caller's rows and order.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cuda/cub.h"
#include "cuda/labelled_batch.h"
#include "cuda/launch.h"
#include "cuda/selection.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

// A warp per anchor -> how many triplets it has, [M + 1] by the caller's anchor; the last is 0.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    count_triplets(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                   int64_t* counts) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  int32_t triplets = 0;
  for (int32_t k = lane(); k < slots.count[i]; k += 32) {
    triplets += selection.selected(slots.offset[i] + k);
  }
  triplets = warp_sum(triplets);
  if (lane() != 0) return;
  counts[pairs.anchors.row(int32_t(i))] = triplets;
  if (i == 0) counts[pairs.anchors.count] = 0;
}

// [T] each
template <class T>
struct TripletList {
  int64_t* anchor;
  int64_t* positive;
  int64_t* negative;
  T* d_ap;
  T* d_an;
};

// A warp per anchor writes its triplets, by ascending positive: the order of its slots.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    list_triplets(const Pairs<T> pairs, const Slots slots, const SelectionArrays<T> selection,
                  const int64_t* first, const TripletList<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int32_t anchor = pairs.anchors.row(int32_t(i));
  const int64_t offset = slots.offset[i];
  int64_t next = first[anchor];
  for (int32_t base = 0; base < slots.count[i]; base += 32) {
    const int64_t slot = offset + base + lane();
    const bool there = base + lane() < slots.count[i] && selection.selected(slot);
    const uint32_t all = __ballot_sync(kAllLanes, there);
    if (there) {
      const int64_t t = next + __popc(all & ((1u << lane()) - 1));
      to.anchor[t] = anchor;
      to.positive[t] = pairs.candidates.row(pairs.class_begin[i] + base + lane());
      to.negative[t] = selection.negative(int32_t(i), offset, slot);
      to.d_ap[t] = selection.d_ap[slot];
      to.d_an[t] = selection.d_an(int32_t(i), offset, slot);
    }
    next += __popc(all);
  }
}

Triplets select_triplets(const SelectTripletsArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Triplets {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch, !is_random(arguments.rule.negatives));
    const Selection<T> selection(batch, arguments.rule);
    const cudaStream_t stream = batch.device.stream();
    const int64_t anchors = emb.size(0);
    const std::string sizes =
        "M=" + std::to_string(anchors) + " slots=" + std::to_string(batch.slot_count);
    const LaunchShape by_anchor{blocks_of_warps(anchors), kBlock};

    int64_t total = 0;
    const Tensor firsts = torch::stable::new_empty(emb, {anchors + 1}, ScalarType::Long);
    int64_t* first = static_cast<int64_t*>(firsts.data_ptr());  // triplets before the anchor's
    if (anchors > 0) {
      const Tensor count_tensor = torch::stable::new_empty(emb, {anchors + 1}, ScalarType::Long);
      int64_t* counts = static_cast<int64_t*>(count_tensor.data_ptr());
      launch("count_triplets", sizes, stream, by_anchor, count_triplets<T>, batch.pairs,
             batch.slots(), selection.arrays(), counts);
      add_up(batch.device, emb, anchors + 1, counts, first);
      check_cuda(
          cudaMemcpyAsync(&total, first + anchors, sizeof total, cudaMemcpyDeviceToHost, stream),
          "reading the number of triplets");
      check_cuda(cudaStreamSynchronize(stream), "reading the number of triplets");
    }

    const auto list = [&](ScalarType type) { return torch::stable::new_empty(emb, {total}, type); };
    Tensor a = list(ScalarType::Long), p = list(ScalarType::Long), n = list(ScalarType::Long);
    Tensor d_ap = list(kValueType<T>), d_an = list(kValueType<T>);
    const auto index = [](Tensor& t) { return static_cast<int64_t*>(t.data_ptr()); };
    launch("list_triplets", sizes, stream, by_anchor, list_triplets<T>, batch.pairs, batch.slots(),
           selection.arrays(), first,
           TripletList<T>{index(a), index(p), index(n), static_cast<T*>(d_ap.data_ptr()),
                          static_cast<T*>(d_an.data_ptr())});
    return {a, p, n, d_ap, d_an};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, FACENET_CUDA_KEY, m) {
  m.impl("select_triplets", TORCH_BOX(&front::select_triplets<select_triplets>));
}

}  // namespace facenet::cuda
