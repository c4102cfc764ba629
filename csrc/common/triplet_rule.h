// The rule of rules.h from the arguments of an operator.
#pragma once

#include <optional>

#include "common/options.h"

namespace facenet {

inline TripletRule parse_rule(const Tensor& emb, const std::optional<Tensor>& seed,
                              const std::string& positives, const std::string& negatives,
                              double margin, bool within_margin, const std::string& fallback,
                              double cutoff, double nonzero_loss_cutoff) {
  TripletRule rule{parse_positives(positives),
                   parse_negatives(negatives),
                   margin,
                   within_margin,
                   parse_fallback(fallback),
                   cutoff,
                   nonzero_loss_cutoff,
                   {}};
  FACENET_CHECK(is_random(rule.negatives) == seed.has_value(), "seed: expected ",
                is_random(rule.negatives) ? "one" : "none", " for '", negatives, "' negatives");
  if (seed) {
    check_given("seed", *seed);
    const int64_t size = seed->numel();
    FACENET_CHECK(seed->scalar_type() == ScalarType::Long && (size == 1 || size == 1 + emb.size(0)),
                  "seed: expected one int64, or 1 + ", emb.size(0), ", got ", size, " entries");
    check_same_device("emb", emb, "seed", *seed);
    rule.seed.number = static_cast<const int64_t*>(seed->data_ptr());
    if (size > 1) rule.seed.anchor_rows = rule.seed.number + 1;
  }
  FACENET_CHECK(0 < cutoff && cutoff < nonzero_loss_cutoff && nonzero_loss_cutoff <= 2,
                "cutoff and nonzero_loss_cutoff: expected 0 < cutoff < nonzero_loss_cutoff <= 2, "
                "got ",
                cutoff, " and ", nonzero_loss_cutoff);
  return rule;
}

}  // namespace facenet
