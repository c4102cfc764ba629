// The options that operators take as strings, and how callers spell them.
#pragma once

#include <limits>
#include <string>

#include "common/checks.h"
#include "common/rules.h"
#include "semantics/band.h"
#include "semantics/distance.h"
#include "semantics/softmax.h"

namespace facenet {

template <class E>
struct Choice {
  const char* name;
  E value;
};

template <class E, size_t n>
E parse_option(const char* argument, const std::string& given, const Choice<E> (&choices)[n]) {
  std::string list;
  for (const Choice<E>& choice : choices) {
    if (given == choice.name) return choice.value;
    list += (list.empty() ? "'" : ", '") + std::string(choice.name) + "'";
  }
  FACENET_CHECK(false, argument, ": expected one of ", list, ", got '", given, "'");
}

inline Distance parse_distance(const std::string& given) {
  static constexpr Choice<Distance> kChoices[] = {{"sqeuclidean", Distance::kSqEuclidean},
                                                  {"euclidean", Distance::kEuclidean},
                                                  {"cosine", Distance::kCosine}};
  return parse_option("distance", given, kChoices);
}

inline PositiveRule parse_positives(const std::string& given) {
  static constexpr Choice<PositiveRule> kChoices[] = {{"all", PositiveRule::kAll},
                                                      {"hardest", PositiveRule::kHardest},
                                                      {"easiest", PositiveRule::kEasiest}};
  return parse_option("positives", given, kChoices);
}

inline NegativeRule parse_negatives(const std::string& given) {
  static constexpr Choice<NegativeRule> kChoices[] = {
      {"semihard", NegativeRule::kSemihard},
      {"hardest", NegativeRule::kHardest},
      {"random_semihard", NegativeRule::kRandomSemihard},
      {"random_violating", NegativeRule::kRandomViolating},
      {"distance_weighted", NegativeRule::kDistanceWeighted}};
  return parse_option("negatives", given, kChoices);
}

inline Fallback parse_fallback(const std::string& given) {
  static constexpr Choice<Fallback> kChoices[] = {{"farthest", Fallback::kFarthest},
                                                  {"drop", Fallback::kDrop}};
  return parse_option("fallback", given, kChoices);
}

inline TripletKind parse_triplets(const std::string& given) {
  static constexpr Choice<TripletKind> kChoices[] = {{"all", TripletKind::kAll},
                                                     {"hard", TripletKind::kHard},
                                                     {"semihard", TripletKind::kSemihard},
                                                     {"easy", TripletKind::kEasy}};
  return parse_option("triplets", given, kChoices);
}

inline SoftmaxLoss parse_softmax_loss(const std::string& given) {
  static constexpr Choice<SoftmaxLoss> kChoices[] = {{"supcon", SoftmaxLoss::kSupCon},
                                                     {"ntxent", SoftmaxLoss::kNtXent}};
  return parse_option("loss", given, kChoices);
}

inline void check_temperature(double given) {
  using Limits = std::numeric_limits<float>;
  FACENET_CHECK(given >= Limits::min() && given <= Limits::max(),
                "temperature: expected a number above 0 that float32 can hold, got ", given);
}

inline Reduction parse_reduction(const std::string& given) {
  static constexpr Choice<Reduction> kChoices[] = {{"mean", Reduction::kMean},
                                                   {"mean_nonzero", Reduction::kMeanNonzero},
                                                   {"sum", Reduction::kSum}};
  return parse_option("reduction", given, kChoices);
}

}  // namespace facenet
