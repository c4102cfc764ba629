"""Claims about intervals: what is drawn, how it is read, and what is said of few errors."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap, norm  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.metrics import (
    Replicates,
    Summary,
    actual_dcf,
    auc,
    cllr,
    eer,
    eer_convex_hull,
    error_rates,
    error_rates_by_group,
    fnmr_at_fmr,
    interval_of,
    min_cllr,
    min_dcf,
    paired_difference,
    resample_identities,
    summarize,
)
from facenet_ext.metrics.paired import resample_paired


def pairs_of_people(seed: int = 0, people: int = 40, each: int = 4) -> dict[str, Any]:
    """All pairs of some images, at distances that depend on both identities."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(people * each) // each
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    same = labels[first] == labels[second]
    effect = 0.4 * torch.randn(people, generator=generator)
    distances = torch.randn(len(same), generator=generator) + 2 * ~same
    distances += effect[labels[first]] + effect[labels[second]]
    return {
        "distances": distances,
        "same": same,
        "first": first,
        "second": second,
        "labels": labels,
    }


def figures_of(summary: Summary) -> dict[str, float]:
    return {key: figure.value for key, figure in summary.figures.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_summary_has_the_figures_of_their_functions(dtype: torch.dtype) -> None:
    pairs = pairs_of_people()
    pairs["distances"] = (pairs["distances"] * 4).round().to(dtype) / 4
    distances, same = pairs["distances"], pairs["same"]
    found = summarize(
        **pairs, fmr=(0.1, 0.01), threshold=0.5, p_target=0.1, log_likelihood_ratios=True
    )
    rates = error_rates(distances, same, 0.5)
    assert figures_of(found) == {
        "fnmr_at_fmr_0.1": fnmr_at_fmr(distances, same, 0.1).fnmr,
        "fnmr_at_fmr_0.01": fnmr_at_fmr(distances, same, 0.01).fnmr,
        "fmr": rates.fmr,
        "fnmr": rates.fnmr,
        "eer": eer(distances, same).rate,
        "eer_convex_hull": eer_convex_hull(distances, same),
        "min_dcf": min_dcf(distances, same, 0.1).cost,
        "min_cllr": min_cllr(distances, same),
        "auc": auc(distances, same),
        "actual_dcf": actual_dcf(-distances, same, 0.1).cost,
        "cllr": cllr(-distances, same),
    }
    for figure in found.figures.values():
        low, high = figure.interval
        assert low < figure.value < high, figure
    drawn = found.replicates
    assert drawn is not None
    assert drawn.eer()[0] == pytest.approx(found.figures["eer"].value, abs=1e-3)
    for key in ("eer_convex_hull", "auc", "min_cllr", "cllr"):
        assert getattr(drawn, key)()[0] == pytest.approx(found.figures[key].value, abs=2e-3)
    assert drawn.min_dcf(0.1)[0] == pytest.approx(found.figures["min_dcf"].value, abs=1e-9)
    assert drawn.actual_dcf(0.1)[0] == pytest.approx(found.figures["actual_dcf"].value, abs=1e-9)


def weighted_rates(pairs: dict[str, Tensor], threshold: float, seed: int) -> NDArray[Any]:
    """FMR and FNMR of one replicate, by the weight of each pair, w_i w_j or w_i."""
    labels, people = pairs["labels"], int(pairs["labels"].max()) + 1
    drawn = np.random.default_rng(seed).integers(people, size=people)
    weight = torch.from_numpy(np.bincount(drawn, minlength=people)).double()
    one, other = (weight[labels[pairs[side]]] for side in ("first", "second"))
    wrong = (pairs["distances"] <= threshold) != pairs["same"]
    rates = []
    for kind, of in ((~pairs["same"], one * other), (pairs["same"], one)):
        rates.append(float((of * wrong)[kind].sum() / of[kind].sum()))
    return np.array(rates)


def test_replicates_spread_as_drawing_people_one_by_one_does() -> None:
    """Where people matter more than pairs, the sum of weights does what their product does."""
    pairs = pairs_of_people(people=80)
    drawn = resample_identities(**pairs, at=(0.5,), replicates=2000)
    ours = np.stack(drawn.at_threshold(0.5))
    product = np.array([weighted_rates(pairs, 0.5, seed) for seed in range(1000)]).T
    np.testing.assert_allclose(ours[:, 1:].std(1), product.std(1), rtol=0.1)
    np.testing.assert_allclose(ours[:, 1:].mean(1), ours[:, 0], rtol=0.02)


def test_each_identity_is_drawn_as_often_over_all_replicates() -> None:
    drawn = resample_identities(**pairs_of_people(), at=(0.5,), replicates=50)
    for rows in drawn.at_threshold(0.5):
        # Where each drawing is by itself, their mean is off by the root of 1 / 50.
        assert abs(rows[1:].mean() - rows[0]) < 0.02 * rows[1:].std()


def test_identities_may_have_any_number_and_the_sides_any_order() -> None:
    pairs = pairs_of_people()
    before = summarize(**pairs)
    named = {**pairs, "labels": pairs["labels"] * 1000 - 7}
    assert figures_and_intervals(summarize(**named)) == figures_and_intervals(before)
    swapped = {**pairs, "first": pairs["second"], "second": pairs["first"]}
    assert figures_and_intervals(summarize(**swapped)) == figures_and_intervals(before)
    direct = {
        "distances": pairs["distances"],
        "same": pairs["same"],
        "first": pairs["labels"][pairs["first"]],
        "second": pairs["labels"][pairs["second"]].int(),
    }
    assert figures_and_intervals(summarize(**direct)) == figures_and_intervals(before)
    assert before.identities == 40


def figures_and_intervals(summary: Summary) -> str:
    return repr(summary.figures)


def test_pairs_are_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of_people()
    whole = summarize(**pairs, log_likelihood_ratios=True)
    monkeypatch.setattr("facenet_ext.metrics.sources.CHUNK", 1000)
    chunked = summarize(**pairs, log_likelihood_ratios=True)
    for key, figure in whole.figures.items():
        interval = tuple(chunked.figures[key].interval)
        assert interval == pytest.approx(tuple(figure.interval), rel=1e-9, nan_ok=True)


def test_more_identities_than_are_drawn_are_drawn_in_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = pairs_of_people(people=300, each=3)
    before = summarize(**pairs, replicates=400)
    monkeypatch.setattr("facenet_ext.metrics._clusters._GROUPS", 150)
    after = summarize(**pairs, replicates=400)
    assert after.identities == 300
    for key, figure in before.figures.items():
        widths = [
            one.figures[key].interval.high - one.figures[key].interval.low
            for one in (before, after)
        ]
        if figure.value == figure.value:
            assert widths[1] == pytest.approx(widths[0], rel=0.35), key


def test_without_an_error_the_rule_of_3_holds() -> None:
    pairs = pairs_of_people(people=50)
    pairs["distances"] = (~pairs["same"]).float() + torch.rand(len(pairs["same"])) / 2
    found = summarize(**pairs, threshold=0.75, fmr=(0.01,))
    fnmr, fmr = found.figures["fnmr"], found.figures["fmr"]
    assert fnmr.value == fmr.value == fnmr.interval.low == fmr.interval.low == 0
    # 50 people, of whom 25 pairs have nobody in common.
    assert fnmr.interval.high == pytest.approx(1 - 0.05 ** (1 / 50))
    assert fmr.interval.high == pytest.approx(1 - 0.05 ** (1 / 25))
    assert fnmr.remark == "fewer than 30 errors: 0 false non-matches"
    assert fmr.remark == "fewer than 30 errors: 0 false matches"
    assert math.isnan(found.figures["min_cllr"].interval.low)


def test_what_is_beyond_the_pairs_has_no_value_and_no_interval() -> None:
    figure = summarize(**pairs_of_people(people=10), fmr=(1e-5,)).figures["fnmr_at_fmr_1e-05"]
    assert math.isnan(figure.value)
    assert all(map(math.isnan, figure.interval))
    assert figure.remark == "not reachable with this many"


def test_without_identities_there_are_figures_and_no_intervals() -> None:
    pairs = pairs_of_people()
    found = summarize(pairs["distances"], pairs["same"])
    assert found.identities is None
    assert found.replicates is None
    assert figures_of(found) == pytest.approx(figures_of(summarize(**pairs)), nan_ok=True)
    assert all(math.isnan(figure.interval.low) for figure in found.figures.values())


def test_infinite_distances_are_measured() -> None:
    pairs = pairs_of_people()
    pairs["distances"][::7] = math.inf
    pairs["distances"][1::97] = -math.inf
    found = summarize(**pairs, threshold=0.5, p_target=0.3)
    for key in ("eer", "eer_convex_hull", "fmr", "fnmr", "min_dcf", "min_cllr", "auc"):
        figure = found.figures[key]
        assert 0 < figure.value < 1
        assert figure.interval.low <= figure.value <= figure.interval.high
    assert found.figures["fnmr"].value > 1 / 7


def test_replicates_are_read_between_their_thresholds() -> None:
    fmr, fnmr = np.array([[0.0, 0.1, 0.5, 1.0]] * 2), np.array([[1.0, 0.4, 0.2, 0.0]] * 2)
    drawn = Replicates(np.array([-math.inf, 1, 2, math.inf]), fmr, fnmr, 9, (9, 4), (80, 90))
    assert drawn.fnmr_at_fmr(0.2) == pytest.approx([0.35, 0.35])
    assert drawn.fnmr_at_fmr(1.0) == pytest.approx([0, 0])
    assert drawn.eer() == pytest.approx([0.3, 0.3])
    assert drawn.auc() == pytest.approx([1 - 0.07 - 0.12 - 0.05] * 2)


def test_the_interval_of_a_mean_is_scipys() -> None:
    """Efron's interval, which is skewed as the values are."""
    values = np.random.default_rng(0).exponential(size=60)
    drawn = np.random.default_rng(1).choice(values, (20_000, 60)).mean(1)
    ours = interval_of(np.append(values.mean(), drawn))
    low, high = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", random_state=2
    ).confidence_interval
    width = high - low
    assert ours.low == pytest.approx(low, abs=0.04 * width)  # twice the noise of both
    assert ours.high == pytest.approx(high, abs=0.04 * width)
    mean = values.mean()
    assert ours.high - mean > 1.15 * (mean - ours.low)


def test_an_interval_is_as_wide_with_few_replicates() -> None:
    """Of R normal replicates the least has the share 1 / (R + 1) below it, not 0."""
    generator = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        drawn = generator.normal(size=100)
        figures = np.append(0.0, drawn - np.median(drawn))
        held.append([norm.cdf(end) for end in interval_of(figures, confidence=0.95)])
    low, high = np.mean(held, 0)
    # Its own noise in the acceleration widens an interval a little.
    assert high - low == pytest.approx(0.95, abs=0.004)


def test_a_band_is_made_of_intervals() -> None:
    drawn = resample_identities(**pairs_of_people(), replicates=200)
    low, high = drawn.band([0.01, 0.1])
    interval = interval_of(drawn.fnmr_at_fmr(0.1), independent=40, kind="rate")
    assert (low[1], high[1]) == pytest.approx(tuple(interval))
    assert low[0] < drawn.fnmr_at_fmr(0.01)[0] < high[0]


def test_two_systems_are_compared_with_the_same_people() -> None:
    pairs = pairs_of_people(people=100)
    noise = torch.randn(len(pairs["same"]), generator=torch.Generator().manual_seed(9))
    worse = {**pairs, "distances": pairs["distances"] + noise}
    drawn = [resample_identities(**one, replicates=500, seed=3).eer() for one in (worse, pairs)]
    paired = paired_difference(drawn[0], drawn[1])
    assert paired.value == pytest.approx(drawn[0][0] - drawn[1][0])
    assert paired.interval.low > 0
    assert paired.above > 0.99
    apart = paired_difference(drawn[0], resample_identities(**pairs, replicates=500, seed=4).eer())
    width, unpaired = (one.interval.high - one.interval.low for one in (paired, apart))
    assert width < 0.75 * unpaired
    assert paired_difference(drawn[1], drawn[1]).above == 0.5


@pytest.mark.parametrize(
    ("effect", "common"), [(0.5, True), (0.0, False)], ids=["people differ", "pairs differ"]
)
def test_a_difference_varies_as_what_is_not_common_to_both(effect: float, common: bool) -> None:
    """Pairs are hard for both systems, and people for one, or each pair for one."""
    labels = torch.arange(60)
    first, second = torch.triu_indices(60, 60, offset=1)
    ends = [torch.cat([labels, end]) for end in (first, second)]
    same = ends[0] == ends[1]
    values, widths = [], []
    for seed in range(150):
        generator = torch.Generator().manual_seed(seed)
        pair = torch.randn(len(same), generator=generator)
        distances = []
        for _ in range(2):
            if not common:
                pair = torch.randn(len(same), generator=generator)
            person = effect * torch.randn(60, generator=generator)
            distances.append(pair + person[ends[0]] + person[ends[1]] + 1.5 * ~same)
        drawn = resample_paired(
            (distances[0], distances[1]), same, *ends, at=(0.5,), replicates=200, seed=seed
        )
        found = drawn.difference(lambda of: of.at_threshold(0.5)[0])
        values.append(found.value)
        widths.append((found.interval.high - found.interval.low) / (2 * 1.96))
    assert np.mean(values) == pytest.approx(0, abs=0.02)
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.12)


def test_groups_have_the_counts_of_their_pairs() -> None:
    pairs = pairs_of_people(people=60)
    labels = pairs["labels"]
    groups = torch.randint(3, (len(labels),), generator=torch.Generator().manual_seed(2)) * 4
    groups[5] = -1
    found = error_rates_by_group(**pairs, groups=groups, threshold=0.5)
    assert [one.groups for one in found] == [(0, 0), (0, 4), (0, 8), (4, 4), (4, 8), (8, 8)]
    accepted = pairs["distances"] <= 0.5
    one, other = groups[pairs["first"]], groups[pairs["second"]]
    for rates in found:
        low, high = rates.groups
        inside = ((one == low) & (other == high)) | ((one == high) & (other == low))
        same, different = inside & pairs["same"], inside & ~pairs["same"]
        assert rates.same == int(same.sum())
        assert rates.different == int(different.sum())
        assert rates.false_matches == int((different & accepted).sum())
        assert rates.false_non_matches == int((same & ~accepted).sum())
        assert rates.fmr == pytest.approx(rates.false_matches / rates.different)
        assert rates.fnmr == pytest.approx(rates.false_non_matches / rates.same)
        assert rates.fmr_interval.low < rates.fmr < rates.fmr_interval.high
        assert rates.fnmr_interval.low < rates.fnmr < rates.fnmr_interval.high


def test_groups_of_unknown_people_have_no_intervals() -> None:
    pairs = pairs_of_people(people=60)
    groups = pairs["labels"] % 2
    known = error_rates_by_group(**pairs, groups=groups, threshold=0.5)
    unknown = error_rates_by_group(**{**pairs, "labels": None}, groups=groups, threshold=0.5)
    for one, other in zip(known, unknown, strict=True):
        nothing = dataclasses.replace(
            one, fmr_interval=other.fmr_interval, fnmr_interval=other.fnmr_interval
        )
        assert str(nothing) == str(other)
        assert all(math.isnan(end) for end in (*other.fmr_interval, *other.fnmr_interval))


def test_a_figure_has_the_fmr_at_its_threshold() -> None:
    pairs = pairs_of_people(people=60)
    figures = summarize(**pairs, threshold=0.5).figures
    different = pairs["distances"][~pairs["same"]]
    for key in ("fnmr_at_fmr_0.01", "fmr", "fnmr", "eer", "min_dcf"):
        accepted = (different <= figures[key].threshold).double().mean().item()
        assert figures[key].fmr == pytest.approx(accepted), key
    assert math.isnan(figures["auc"].fmr)


def test_one_group_has_the_rates_and_the_intervals_of_all() -> None:
    pairs = pairs_of_people()
    (rates,) = error_rates_by_group(
        **pairs, groups=torch.zeros_like(pairs["labels"]), threshold=0.5
    )
    figures = summarize(**pairs, threshold=0.5).figures
    assert tuple(rates.fmr_interval) == pytest.approx(tuple(figures["fmr"].interval), rel=0.02)
    assert tuple(rates.fnmr_interval) == pytest.approx(tuple(figures["fnmr"].interval), rel=0.02)


def test_groups_without_a_kind_of_pair_say_so() -> None:
    pairs = pairs_of_people(people=12)
    groups = (pairs["labels"] >= 11).long()
    low, across, high = error_rates_by_group(**pairs, groups=groups, threshold=0.5)
    assert low.fmr_remark.startswith(("", "fewer than 30"))
    assert (across.same, across.fnmr_remark) == (0, "no same pairs")
    assert math.isnan(across.fnmr)
    assert (high.different, high.fmr_remark) == (0, "no different pairs")
    assert math.isnan(high.fmr_interval.low)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"first": torch.zeros(3, dtype=torch.int64)}, ValueError, "one entry per pair"),
        ({"second": torch.rand(12720)}, TypeError, "second must be integers"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, "rows of labels"),
        ({"labels": torch.zeros(160, dtype=torch.int64)}, ValueError, "two identities or more"),
        ({"replicates": 1}, ValueError, "replicates must be 2 or more"),
        ({"confidence": 1.0}, ValueError, "confidence must be in"),
        ({"threshold": math.nan}, ValueError, "threshold must be a number"),
        ({"p_target": 2.0}, ValueError, "p_target must be in"),
        ({"fmr": (0.0,)}, ValueError, "fmr must be in"),
    ],
)
def test_what_cannot_be_drawn_raises(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        summarize(**(pairs_of_people() | changes))


def test_a_threshold_that_was_not_given_raises() -> None:
    drawn = resample_identities(**pairs_of_people(), replicates=10)
    with pytest.raises(ValueError, match="given in `at`"):
        drawn.at_threshold(0.12345)
    with pytest.raises(ValueError, match="log_likelihood_ratios"):
        drawn.cllr()
