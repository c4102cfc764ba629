// The arguments that the operators over a labelled batch share.
#pragma once

#include <optional>

#include "common/options.h"

namespace facenet {

struct BatchArguments {
  const Tensor& emb;
  const Tensor& labels;
  const std::optional<Tensor>& ref_emb;
  const std::optional<Tensor>& ref_labels;
  const std::optional<Tensor>& anchor_ids;
  const std::optional<Tensor>& ref_ids;
  Distance distance;
  int64_t max_per_class = 0;  // no class has more candidates; 0: unknown

  void check() const {
    check_embeddings("emb", emb);
    check_index_vector("labels", labels, emb.size(0));
    check_same_device("emb", emb, "labels", labels);
    FACENET_CHECK(ref_emb.has_value() == ref_labels.has_value(),
                  "ref_emb and ref_labels: expected both or neither");
    FACENET_CHECK(anchor_ids.has_value() == ref_ids.has_value(),
                  "anchor_ids and ref_ids: expected both or neither");
    FACENET_CHECK(max_per_class >= 0, "max_per_class: expected at least 1, or 0 for none, got ",
                  max_per_class);
    FACENET_CHECK(!anchor_ids || ref_emb, "anchor_ids: expected ref_emb with it, got none");
    if (ref_emb) {
      check_sides("emb", emb, "ref_emb", ref_emb);
      check_index_vector("ref_labels", *ref_labels, ref_emb->size(0));
      check_same_device("emb", emb, "ref_labels", *ref_labels);
    }
    if (anchor_ids) {
      check_index_vector("anchor_ids", *anchor_ids, emb.size(0));
      check_index_vector("ref_ids", *ref_ids, ref_emb->size(0));
      check_same_device("emb", emb, "anchor_ids", *anchor_ids);
      check_same_device("emb", emb, "ref_ids", *ref_ids);
    }
  }
};

}  // namespace facenet
