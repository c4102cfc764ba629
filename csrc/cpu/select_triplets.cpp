// select_triplets on the CPU: the selection, listed in the caller's rows and order.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/labelled_operators.h"
#include "cpu/labelled_batch.h"
#include "cpu/parallel.h"
#include "cpu/selection.h"

namespace facenet::cpu {
namespace {

Triplets select_triplets(const SelectTripletsArguments& arguments) {
  const Tensor& emb = arguments.batch.emb;
  return dispatch_compute_type(emb.scalar_type(), [&](auto zero) -> Triplets {
    using T = decltype(zero);
    const LabelledBatch<T> batch(arguments.batch);
    const Selection<T> s(batch.set, arguments.rule);
    const int64_t anchors = emb.size(0);

    Buffer<int64_t> first(anchors + 1);  // triplets before the caller's anchor
    first[0] = 0;
    for (int64_t a = 0; a < anchors; ++a) {
      int64_t count = 0;
      s.for_each_triplet(batch.position[a], [&](int64_t) { ++count; });
      first[a + 1] = first[a] + count;
    }

    const int64_t total = first[anchors];
    const auto index_tensor = [&] {
      return torch::stable::new_empty(emb, {total}, ScalarType::Long);
    };
    Tensor out_a = index_tensor(), out_p = index_tensor(), out_n = index_tensor();
    Tensor out_ap = torch::stable::new_empty(emb, {total}, kValueType<T>);
    Tensor out_an = torch::stable::new_empty(emb, {total}, kValueType<T>);
    auto* a_data = static_cast<int64_t*>(out_a.data_ptr());
    auto* p_data = static_cast<int64_t*>(out_p.data_ptr());
    auto* n_data = static_cast<int64_t*>(out_n.data_ptr());
    auto* ap_data = static_cast<T*>(out_ap.data_ptr());
    auto* an_data = static_cast<T*>(out_an.data_ptr());
    parallel_rows(anchors, 64, 4.0 * double(total), [&](int64_t begin, int64_t end) {
      for (int64_t a = begin; a < end; ++a) {
        int64_t t = first[a];
        s.for_each_triplet(batch.position[a], [&](int64_t slot) {
          a_data[t] = a;
          p_data[t] = batch.row_of(s.positive[slot]);
          n_data[t] = batch.row_of(s.negative[slot]);
          ap_data[t] = s.d_ap[slot];
          an_data[t] = s.d_an[slot];
          ++t;
        });
      }
    });
    return {out_a, out_p, out_n, out_ap, out_an};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facenet_ext, CPU, m) {
  m.impl("select_triplets", TORCH_BOX(&front::select_triplets<select_triplets>));
}

}  // namespace facenet::cpu
