// Build information and the semantics on plain numbers, for tests: no torch headers in here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "cpu/isa.h"
#include "semantics/band.h"
#include "semantics/distance.h"
#include "semantics/hinge.h"
#include "semantics/key.h"
#include "semantics/order.h"
#include "semantics/random.h"
#include "semantics/successor.h"
#include "semantics/swap.h"

namespace py = pybind11;

PYBIND11_MODULE(_info, m) {
  m.attr("compiler") = __VERSION__;
  m.attr("version") = FACENET_VERSION;
  m.attr("cuda") = FACENET_CUDA_VERSION;
  m.attr("cuda_architectures") = py::str(FACENET_CUDA_ARCHITECTURES).attr("split")();
  m.def("instruction_set", &facenet::cpu::instruction_set_name);

  m.def("closer", &facenet::closer<double>);
  m.def("farther", &facenet::farther<double>);
  m.def("hinge", &facenet::hinge<double>);
  m.def("hinge_slope", &facenet::hinge_slope<double>);
  m.def("inside_margin", &facenet::inside_margin<double>);
  m.def("swapped_distance", &facenet::swapped_distance<double>);
  m.def("anchor_share", &facenet::anchor_share<double>);
  m.def("successor_bucket", [](const std::vector<double>& thresholds, double d) {
    return facenet::successor_bucket(thresholds.data(), int64_t(thresholds.size()), d);
  });
  m.def("active_band", [](int kind, const std::vector<double>& t, double d, double margin) {
    const auto count = int64_t(t.size());
    const facenet::Band band =
        facenet::active_band(static_cast<facenet::TripletKind>(kind),
                             facenet::count_gaps<true>(t.data(), count, d, margin),
                             facenet::count_gaps<false>(t.data(), count, d, 0.0), count);
    return std::make_pair(band.begin, band.begin + band.size());
  });
  m.def("reach_of", &facenet::reach_of<double>);
  m.def("counted_band", [](int kind, const std::vector<double>& t, double d, double margin) {
    const auto count = int64_t(t.size());
    const facenet::Band band =
        facenet::counted_band(static_cast<facenet::TripletKind>(kind),
                              facenet::count_gaps<false>(t.data(), count, d, margin),
                              facenet::count_gaps<false>(t.data(), count, d, 0.0), count);
    return std::make_pair(band.begin, band.begin + band.size());
  });
  m.def("is_of_kind", [](int kind, double gap, double margin) {
    return facenet::is_of_kind(static_cast<facenet::TripletKind>(kind), gap, margin);
  });
  m.def("closer_key", &facenet::closer_key);
  m.def("farther_key", &facenet::farther_key);
  m.def("key_index", &facenet::key_index);
  m.def("closer_key_distance", &facenet::closer_key_distance);
  m.def("farther_key_distance", &facenet::farther_key_distance);
  m.def("beyond", &facenet::beyond);
  m.def("draw", [](uint64_t seed, uint32_t anchor, uint32_t positive, uint32_t negative) {
    const facenet::AnchorWords words = facenet::anchor_words(seed, anchor);
    return facenet::draw(facenet::row_word(words.negatives, negative),
                         facenet::row_word(words.positives, positive));
  });
  m.def("qualifying", [](bool semihard, double d_ap, double margin) {
    const auto in = facenet::qualifying(semihard, d_ap, margin);
    return py::make_tuple(in.low, in.high);
  });
  m.def("natural_log", &facenet::natural_log);
  m.def("log_weight",
        [](float d, float cutoff, float dim) { return facenet::log_weight(d, {cutoff, 2, dim}); });
  m.def("race_score", &facenet::race_score);
  m.def("score_bound", [](float log_weight, uint32_t draw) {
    return facenet::score_bound(facenet::score_allowance(log_weight), facenet::draw_bits(draw));
  });
  m.def("score_priority", &facenet::score_priority);
  m.def("priority_score", &facenet::priority_score);
  m.def("distance_from_squares", [](int kind, double squares) {
    return facenet::distance_from_squares(static_cast<facenet::Distance>(kind), squares);
  });
  m.def("distance_slope", [](int kind, double distance) {
    return facenet::distance_slope(static_cast<facenet::Distance>(kind), distance);
  });
}
