"""Claims about FMR, FNMR, FPIR, FNIR and the DET curve, against counts by their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facenet_ext.metrics import (
    as_norm,
    det_curve,
    eer,
    eer_convex_hull,
    error_rates,
    fnir_at_fpir,
    fnir_at_rank,
    fnmr_at_fmr,
    searches_as_comparisons,
    val_far,
)

INF = math.inf


def pair_sets(*, infinite: bool = True) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """Pairs of both kinds, at distances that often tie, some of them infinite."""
    some = [0.0, 0.25, 0.5, math.nextafter(0.5, 1), 0.75, -1.0, *([INF, -INF] if infinite else [])]
    rows = st.lists(
        st.tuples(st.sampled_from(some) | st.floats(-4, 4), st.booleans()), min_size=2, max_size=40
    )
    return rows.filter(lambda drawn: len({same for _, same in drawn}) == 2).map(
        lambda drawn: (
            torch.tensor([d for d, _ in drawn], dtype=torch.float64),
            torch.tensor([s for _, s in drawn]),
        )
    )


def by_definition(distances: Tensor, same: Tensor, threshold: float) -> tuple[float, float]:
    """FMR and FNMR at a finite threshold."""
    genuine, impostors = distances[same].tolist(), distances[~same].tolist()
    return (
        sum(d <= threshold for d in impostors) / len(impostors),
        sum(d > threshold for d in genuine) / len(genuine),
    )


@given(pair_sets(), st.sampled_from([-1.0, 0.0, 0.3, 0.5, 4.0]))
def test_rates_at_a_threshold_are_their_definition(
    pairs: tuple[Tensor, Tensor], threshold: float
) -> None:
    rates = error_rates(*pairs, threshold)
    assert (rates.fmr, rates.fnmr) == by_definition(*pairs, threshold)
    assert rates.false_matches == round(rates.fmr * int((~pairs[1]).sum()))
    assert rates.false_non_matches == round(rates.fnmr * int(pairs[1].sum()))


def test_what_could_not_be_compared_is_never_accepted() -> None:
    rates = error_rates(torch.tensor([0.1, INF, INF]), torch.tensor([True, True, False]), INF)
    assert (rates.fmr, rates.fnmr) == (0.0, 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_threshold_between_two_distances_is_not_rounded_to_the_upper(dtype: torch.dtype) -> None:
    distances = torch.tensor([0.25, 0.5], dtype=dtype)
    rates = error_rates(distances, torch.tensor([True, False]), math.nextafter(0.5, 0))
    assert rates.fmr == 0


@given(pair_sets(), st.sampled_from([0.01, 0.07, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_fnmr_is_that_of_the_largest_threshold_that_is_strict_enough(
    pairs: tuple[Tensor, Tensor], fmr: float
) -> None:
    distances, same = pairs
    rates = fnmr_at_fmr(distances, same, fmr)
    finite = [t for t in distances.tolist() if t < INF and by_definition(*pairs, t)[0] <= fmr]
    if fmr * int((~same).sum()) < 1 or not finite:
        assert not rates.reachable
        assert rates.remark == "not reachable with this many"
        assert math.isnan(rates.fnmr)
        assert math.isnan(rates.fmr)
        assert math.isnan(rates.threshold)
    else:
        assert rates.reachable
        assert rates.threshold == max(finite)
        assert (rates.fmr, rates.fnmr) == by_definition(*pairs, max(finite))


@given(pair_sets(infinite=False), st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_fnmr_is_one_minus_val(pairs: tuple[Tensor, Tensor], rate: float) -> None:
    ours, point = fnmr_at_fmr(*pairs, rate), val_far(*pairs, rate)
    assert ours.reachable == point.reachable
    if point.reachable:
        assert (ours.threshold, ours.fmr) == (point.threshold, point.far)
        assert ours.fnmr == pytest.approx(1 - point.val, abs=1e-12)


@pytest.mark.parametrize(
    ("errors", "remark"),
    [(29, "fewer than 30 errors: 29 false matches, 29 false non-matches"), (30, "")],
)
def test_the_rule_of_30(errors: int, remark: str) -> None:
    near = torch.cat([torch.zeros(100 - errors), torch.full((errors,), 2.0)])
    same = torch.arange(200) < 100
    assert error_rates(torch.cat([near, 2 - near]), same, 1.0).remark == remark


@given(pair_sets())
def test_det_has_every_threshold(pairs: tuple[Tensor, Tensor]) -> None:
    distances, same = pairs
    curve = det_curve(distances, same)
    finite = sorted({t for t in distances.tolist() if math.isfinite(t)})
    assert curve.thresholds.tolist() == [-INF, *finite]
    rates = [(0.0, 1.0), *(by_definition(distances, same, t) for t in finite)]
    assert list(zip(curve.fmr.tolist(), curve.fnmr.tolist(), strict=True)) == rates


def test_det_of_normal_distances_is_a_straight_line_on_normal_deviates() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(400_000) < 200_000
    distances = (
        torch.randn(len(same), generator=generator) * torch.where(same, 1.0, 2.0) + 3 * ~same
    )
    curve = det_curve(distances, same, points=200)
    assert len(curve.fmr) <= 201
    x, y = curve.normal_deviates
    common = (curve.fmr > 1e-3) & (curve.fmr < 0.99) & (curve.fnmr > 1e-3) & (curve.fnmr < 0.99)
    # FMR = F((t - 3) / 2) and FNMR = F(-t): the deviates are linear in each other.
    torch.testing.assert_close(y[common], -(2 * x[common] + 3), atol=0.05, rtol=0)


def test_few_points_of_det_are_points_of_all() -> None:
    same = torch.rand(5000, generator=torch.Generator().manual_seed(1)) < 0.3
    distances = torch.rand(5000, generator=torch.Generator().manual_seed(2)) + 0.4 * ~same
    all_points, few = det_curve(distances, same), det_curve(distances, same, points=64)
    assert 30 < len(few.fmr) <= 65
    place = {t: row for row, t in enumerate(all_points.thresholds.tolist())}
    rows = [place[t] for t in few.thresholds.tolist()]
    assert torch.equal(all_points.fmr[rows], few.fmr)
    assert torch.equal(all_points.fnmr[rows], few.fnmr)


def hull_by_scipy(distances: Tensor, same: Tensor) -> float:
    """The crossing of FMR = FNMR on the lower hull of all points of the DET, by scipy's hull."""
    from scipy.spatial import ConvexHull  # type: ignore[import-untyped]

    rates = {(0.0, 1.0), (1.0, 0.0)}
    for t in distances.tolist():
        rates.add(
            (
                sum(d <= t for d in distances[~same].tolist()) / int((~same).sum()),
                sum(d > t for d in distances[same].tolist()) / int(same.sum()),
            )
        )
    points = np.array(sorted({*rates, (1.0, 1.0)}))
    corner = points[ConvexHull(points).vertices]
    best = INF
    for (x0, y0), (x1, y1) in zip(corner, np.roll(corner, -1, axis=0), strict=True):
        gap0, gap1 = y0 - x0, y1 - x1
        if gap0 * gap1 <= 0 and gap0 != gap1:
            best = min(best, x0 + gap0 / (gap0 - gap1) * (x1 - x0))
    return best


@given(pair_sets())
def test_eer_of_the_hull(pairs: tuple[Tensor, Tensor]) -> None:
    assert eer_convex_hull(*pairs) == pytest.approx(hull_by_scipy(*pairs), abs=1e-9)


@given(pair_sets(infinite=False))
def test_eer_of_the_hull_is_the_largest_least_error_and_at_most_the_interpolated(
    pairs: tuple[Tensor, Tensor],
) -> None:
    rate, curve = eer_convex_hull(*pairs), det_curve(*pairs)
    assert rate <= min(eer(*pairs).rate, 0.5) + 1e-12
    fmr, fnmr = torch.cat([curve.fmr, torch.ones(1)]), torch.cat([curve.fnmr, torch.zeros(1)])
    for prior in (0.01, 0.3, 0.5, 0.9):
        assert (prior * fnmr + (1 - prior) * fmr).min() <= rate + 1e-12


def searches(seed: int, count: int = 200, candidates: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Candidate lists with ties, some of them shorter."""
    generator = torch.Generator().manual_seed(seed)
    distances = (torch.rand(count, candidates, generator=generator) ** 0.2 * 50).round() / 50
    distances = distances.sort(1).values
    short = torch.rand(count, generator=generator) < 0.2
    distances[short, candidates // 2 :] = INF
    mated = torch.rand(count, generator=generator) < 0.6
    place = torch.randint(candidates + 2, (count,), generator=generator)
    hits = (torch.arange(candidates) == place[:, None]) & mated[:, None] & distances.isfinite()
    return distances, hits, mated


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("fpir", [0.05, 0.3, 1.0])
def test_fnir_at_fpir_is_its_definition(seed: int, rank: int, fpir: float) -> None:
    distances, hits, mated = searches(seed)
    found = fnir_at_fpir(distances, hits, mated, fpir, rank)

    def positives(threshold: float) -> float:
        nearest = [min(row) for row in distances[~mated].tolist()]
        return sum(d <= threshold for d in nearest) / len(nearest)

    def negatives(threshold: float) -> float:
        missed: float = 0
        for row, hit in zip(distances[mated].tolist(), hits[mated].tolist(), strict=True):
            missed += not any(h and d <= threshold for d, h in zip(row[:rank], hit, strict=False))
        return missed / int(mated.sum())

    wide = {*distances[~mated, 0].tolist(), *distances[mated].flatten().tolist()} - {INF}
    allowed = max((t for t in wide if positives(t) <= fpir), default=math.nan)
    if math.isnan(allowed):
        assert not found.reachable
        return
    assert found.fpir == positives(found.threshold) <= fpir
    assert found.fnir == negatives(found.threshold) == negatives(allowed)


@pytest.mark.parametrize("rank", [1, 5, 8])
def test_fnir_of_an_investigation_has_no_threshold(rank: int) -> None:
    distances, hits, mated = searches(7)
    found = fnir_at_rank(hits, mated, rank)
    missed = sum(not any(hit[:rank]) for hit in hits[mated].tolist())
    assert found.false_negatives == missed
    assert found.fnir == missed / int(mated.sum())
    assert found.threshold == INF
    assert fnir_at_rank(hits[mated], mated[mated], rank).fnir == found.fnir
    if rank == 8:
        assert (distances[:, :1] < INF).all()


def test_remarks_on_searches_speak_of_searches() -> None:
    remark = fnir_at_fpir(*searches(0), 0.1).remark
    assert "false positives" in remark
    assert "matches" not in remark


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d, h, m: (d.flip(1), h, m), ValueError, "nearest candidate of each search first"),
        (lambda d, h, m: (d, ~h, m), ValueError, "searches without a mate"),
        (lambda d, h, m: (d[:, :4], h, m), ValueError, "one shape"),
        (lambda d, h, m: (d, h, m[:4]), ValueError, "mated \\[searches\\]"),
        (lambda d, h, m: (d, h.int(), m), TypeError, "hits must be bool"),
        (lambda d, h, m: (d.int(), h, m), TypeError, "floating point"),
    ],
)
def test_bad_searches_raise(change: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        searches_as_comparisons(*change(*searches(0)))  # type: ignore[operator]


@pytest.mark.parametrize("rank", [0, 9])
def test_a_rank_beyond_the_candidates_raises(rank: int) -> None:
    with pytest.raises(ValueError, match="rank must be 1 to 8"):
        fnir_at_rank(*searches(0)[1:], rank)


@pytest.mark.parametrize("top", [2, 7, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_norm_is_its_definition(top: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(top)
    cohorts = [torch.randn(rows, 40, generator=generator, dtype=dtype) for rows in (11, 5)]
    first, second = (torch.randint(rows, (300,), generator=generator) for rows in (11, 5))
    scores = torch.randn(300, generator=generator, dtype=dtype)
    expected = np.zeros(300)
    for rows, cohort in zip((first, second), cohorts, strict=True):
        largest = np.sort(cohort.numpy().astype(np.float64), axis=1)[:, -top:]
        z = (scores.numpy() - largest.mean(1)[rows]) / np.sqrt(largest.var(1))[rows]
        expected += z / 2
    ours = as_norm(scores, first, second, cohorts[0], cohorts[1], top=top)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_as_norm_undoes_a_shift_and_a_scale_of_each_side() -> None:
    generator = torch.Generator().manual_seed(0)
    cohort = torch.randn(6, 50, generator=generator, dtype=torch.float64)
    scores = torch.randn(6, generator=generator, dtype=torch.float64)
    own, fixed = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    before = as_norm(scores, own, own, cohort, cohort, top=10)
    scale, shift = torch.rand(6, 1).double() + 0.5, torch.randn(6, 1).double()
    moved, scores = cohort * scale + shift, scores * scale[:, 0] + shift[:, 0]
    torch.testing.assert_close(as_norm(scores, own, own, moved, moved, top=10), before)
    assert not torch.allclose(as_norm(scores, own, fixed, moved, cohort, top=10), before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"top": 1}, ValueError, "top must be 2 to"),
        ({"top": 5}, ValueError, "top must be 2 to"),
        ({"scores": torch.tensor([math.nan, 0.0])}, ValueError, "scores must be finite"),
        ({"scores": torch.arange(2)}, TypeError, "scores must be floating point"),
        ({"first": torch.tensor([0, 3])}, ValueError, "first must be rows of first_cohort, 0 to 2"),
        ({"first": torch.tensor([0])}, ValueError, "first must have a row for each score"),
        ({"second": torch.tensor([0.0, 1.0])}, TypeError, "second must be integers"),
        ({"first_cohort": torch.ones(3, 4)}, ValueError, "row 0 has 2 equal ones"),
        ({"second_cohort": torch.full((3, 4), INF)}, ValueError, "second_cohort must be finite"),
    ],
)
def test_bad_cohorts_raise(
    changes: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    arguments = {
        "scores": torch.zeros(2),
        "first": torch.tensor([0, 1]),
        "second": torch.tensor([0, 1]),
        "first_cohort": torch.randn(3, 4),
        "second_cohort": torch.randn(3, 4),
        "top": 2,
    }
    with pytest.raises(error, match=message):
        as_norm(**(arguments | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [fnmr_at_fmr, det_curve, eer_convex_hull])
def test_pairs_that_cannot_be_measured_raise(metric: object) -> None:
    call = metric
    assert callable(call)
    with pytest.raises(ValueError, match="distances must be no NaN, got 1 of them"):
        call(torch.tensor([0.1, math.nan]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="2 same and 0 different"):
        call(torch.rand(2), torch.ones(2, dtype=torch.bool))
    with pytest.raises(TypeError, match="same must be bool"):
        call(torch.rand(2), torch.tensor([0, 1]))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, math.nan])
def test_a_wanted_rate_outside_its_range_raises(rate: float) -> None:
    with pytest.raises(ValueError, match="fmr must be in"):
        fnmr_at_fmr(torch.rand(4), torch.arange(4) < 2, rate)
    with pytest.raises(ValueError, match="fpir must be in"):
        fnir_at_fpir(*searches(0), rate)
