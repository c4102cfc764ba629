// The front of each operator over a labelled batch: it has the signature of the operator's schema
// in ops.cpp, parses and checks the arguments, and calls the backend's `kernel` with one structure.
#pragma once

#include <tuple>
#include <vector>

#include "common/batch_arguments.h"
#include "common/triplet_rule.h"
#include "semantics/bins.h"

namespace facenet {

struct SelectTripletsArguments {
  BatchArguments batch;
  TripletRule rule;
};

struct MinedTripletLossArguments {
  BatchArguments batch;
  TripletRule rule;
  bool smooth;
  Reduction reduction;
  bool emb_grad, ref_grad;  // whose gradient the caller asks for; ref_grad only with a bank
};

struct TripletMarginLossArguments {
  BatchArguments batch;
  TripletKind kind;
  double margin;
  bool smooth;
  Reduction reduction;
  bool emb_grad, ref_grad;  // as in MinedTripletLossArguments
};

struct SoftmaxLossArguments {
  BatchArguments batch;
  SoftmaxLoss loss;
  double temperature;
  bool partial;  // without any negative here the loss is not 0
  Reduction reduction;
  bool emb_grad, ref_grad;  // as in MinedTripletLossArguments
};

struct DistanceHistogramArguments {
  BatchArguments batch;
  Bins bins;
};

// The windows of a histogram's bins: see the schema.
inline Bins parse_bins(ScalarType embeddings, const std::vector<int64_t>& low, int64_t shift,
                       int64_t bins) {
  constexpr int64_t kMost = int64_t(1) << 22;
  const int width = embeddings == ScalarType::Double ? 63 : 31;
  const int64_t windows = int64_t(low.size());
  FACENET_CHECK(windows >= 1 && windows <= Bins::kMostWindows, "low: expected 1 to ",
                Bins::kMostWindows, " windows, got ", windows);
  FACENET_CHECK(shift >= 0 && shift < width, "shift: expected 0 to ", width - 1, ", got ", shift);
  FACENET_CHECK(bins >= 1 && bins <= kMost, "bins: expected 1 to ", kMost, ", got ", bins);
  Bins checked{};
  for (int64_t w = 0; w < windows; ++w) {
    FACENET_CHECK(low[w] >= 0 && (low[w] >> (width - 1) >> 1) == 0,
                  "low: expected the bits of a distance, got ", low[w]);
    FACENET_CHECK(w == 0 || (low[w] >= low[w - 1] && (low[w] - low[w - 1]) >> shift >= bins),
                  "low: expected windows in order and apart, got ", low[w], " after ", low[w - 1]);
    checked.low[w] = low[w];
  }
  checked.windows = int(windows);
  checked.shift = int(shift);
  checked.count = bins;
  return checked;
}

using Triplets = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
// The totals are the losses' sum and its divisors for "mean" and "mean_nonzero": see ops.cpp.
using LossAndGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

namespace front {

template <Triplets (*kernel)(const SelectTripletsArguments&)>
Triplets select_triplets(const Tensor& emb, const Tensor& labels,
                         const std::optional<Tensor>& ref_emb,
                         const std::optional<Tensor>& ref_labels,
                         const std::optional<Tensor>& anchor_ids,
                         const std::optional<Tensor>& ref_ids, const std::optional<Tensor>& seed,
                         const std::string& positives, const std::string& negatives, double margin,
                         bool within_margin, const std::string& fallback,
                         const std::string& distance, double cutoff, double nonzero_loss_cutoff) {
  const BatchArguments batch{
      emb, labels, ref_emb, ref_labels, anchor_ids, ref_ids, parse_distance(distance)};
  batch.check();
  return kernel({batch, parse_rule(emb, seed, positives, negatives, margin, within_margin, fallback,
                                   cutoff, nonzero_loss_cutoff)});
}

template <LossAndGradients (*kernel)(const MinedTripletLossArguments&)>
LossAndGradients mined_triplet_loss(
    const Tensor& emb, const Tensor& labels, const std::optional<Tensor>& ref_emb,
    const std::optional<Tensor>& ref_labels, const std::optional<Tensor>& anchor_ids,
    const std::optional<Tensor>& ref_ids, const std::optional<Tensor>& seed,
    const std::string& positives, const std::string& negatives, double margin, bool within_margin,
    const std::string& fallback, const std::string& distance, double cutoff,
    double nonzero_loss_cutoff, int64_t max_per_class, bool smooth, const std::string& reduction,
    bool emb_grad, bool ref_grad) {
  const BatchArguments batch{
      emb,          labels, ref_emb, ref_labels, anchor_ids, ref_ids, parse_distance(distance),
      max_per_class};
  batch.check();
  const TripletRule rule = parse_rule(emb, seed, positives, negatives, margin, within_margin,
                                      fallback, cutoff, nonzero_loss_cutoff);
  return kernel(
      {batch, rule, smooth, parse_reduction(reduction), emb_grad, ref_grad && ref_emb.has_value()});
}

template <LossAndGradients (*kernel)(const TripletMarginLossArguments&)>
LossAndGradients triplet_margin_loss(
    const Tensor& emb, const Tensor& labels, const std::optional<Tensor>& ref_emb,
    const std::optional<Tensor>& ref_labels, const std::optional<Tensor>& anchor_ids,
    const std::optional<Tensor>& ref_ids, const std::string& triplets, double margin,
    const std::string& distance, int64_t max_per_class, bool smooth, const std::string& reduction,
    bool emb_grad, bool ref_grad) {
  const BatchArguments batch{
      emb,          labels, ref_emb, ref_labels, anchor_ids, ref_ids, parse_distance(distance),
      max_per_class};
  batch.check();
  return kernel({batch, parse_triplets(triplets), margin, smooth, parse_reduction(reduction),
                 emb_grad, ref_grad && ref_emb.has_value()});
}

template <LossAndGradients (*kernel)(const SoftmaxLossArguments&)>
LossAndGradients softmax_loss(const Tensor& emb, const Tensor& labels,
                              const std::optional<Tensor>& ref_emb,
                              const std::optional<Tensor>& ref_labels,
                              const std::optional<Tensor>& anchor_ids,
                              const std::optional<Tensor>& ref_ids, const std::string& loss,
                              double temperature, bool partial, const std::string& reduction,
                              bool emb_grad, bool ref_grad) {
  const BatchArguments batch{emb,        labels,  ref_emb,          ref_labels,
                             anchor_ids, ref_ids, Distance::kCosine};
  batch.check();
  check_temperature(temperature);
  return kernel({batch, parse_softmax_loss(loss), temperature, partial, parse_reduction(reduction),
                 emb_grad, ref_grad && ref_emb.has_value()});
}

template <Tensor (*kernel)(const DistanceHistogramArguments&)>
Tensor distance_histogram(const Tensor& emb, const Tensor& labels,
                          const std::optional<Tensor>& ref_emb,
                          const std::optional<Tensor>& ref_labels, const std::string& distance,
                          const std::vector<int64_t>& low, int64_t shift, int64_t bins) {
  const std::optional<Tensor> none;
  const BatchArguments batch{
      emb, labels, ref_emb, ref_labels, none, none, parse_distance(distance)};
  batch.check();
  return kernel({batch, parse_bins(emb.scalar_type(), low, shift, bins)});
}

}  // namespace front
}  // namespace facenet
