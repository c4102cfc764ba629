// The arguments that select_triplets and mined_triplet_loss share, checked.
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
  int64_t max_per_class = 0;  // no class has more candidates; 0: not known

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
      check_embeddings("ref_emb", *ref_emb);
      check_same_space("emb", emb, "ref_emb", *ref_emb);
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

  TripletRule rule(const std::optional<Tensor>& seed, const std::string& positives,
                   const std::string& negatives, double margin, bool within_margin,
                   const std::string& fallback, double cutoff, double nonzero_loss_cutoff) const {
    TripletRule rule{parse_positives(positives),
                     parse_negatives(negatives),
                     margin,
                     within_margin,
                     parse_fallback(fallback),
                     cutoff,
                     nonzero_loss_cutoff,
                     nullptr};
    FACENET_CHECK(is_random(rule.negatives) == seed.has_value(), "seed: expected ",
                  is_random(rule.negatives) ? "one" : "none", " for '", negatives, "' negatives");
    if (seed) {
      check_given("seed", *seed);
      FACENET_CHECK(seed->scalar_type() == ScalarType::Long && seed->numel() == 1,
                    "seed: expected one int64, got ", seed->numel(), " entries");
      check_same_device("emb", emb, "seed", *seed);
      rule.seed = static_cast<const int64_t*>(seed->data_ptr());
    }
    FACENET_CHECK(0 < cutoff && cutoff < nonzero_loss_cutoff && nonzero_loss_cutoff <= 2,
                  "cutoff and nonzero_loss_cutoff: expected 0 < cutoff < nonzero_loss_cutoff <= 2, "
                  "got ",
                  cutoff, " and ", nonzero_loss_cutoff);
    return rule;
  }
};

}  // namespace facenet
