"""Claims about detection costs and Cllr, against the definitions of Kaldi and NIST."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.metrics import (
    actual_dcf,
    auc,
    cllr,
    eer,
    eer_convex_hull,
    error_rates,
    fnmr_at_fmr,
    min_cllr,
    min_dcf,
)

INF = math.inf


def scored_pairs(seed: int, count: int = 500, decimals: int | None = None) -> tuple[Tensor, Tensor]:
    """Scores, larger for same pairs; with few decimals many tie."""
    generator = torch.Generator().manual_seed(seed)
    same = torch.rand(count, generator=generator) < 0.3
    same[:2] = torch.tensor([True, False])
    scores = torch.randn(count, generator=generator, dtype=torch.float64) * 2 + 3 * same - 2
    return (scores if decimals is None else scores.round(decimals=decimals)), same


def kaldi_min_dcf(scores: Tensor, same: Tensor, p: float, c_miss: float, c_fa: float) -> float:
    """Walk up the sorted scores, one trial after the other, each in turn being rejected too."""
    trials = sorted(zip(scores.tolist(), same.tolist(), strict=True))
    targets, nontargets = int(same.sum()), int((~same).sum())
    misses, rejected, least = 0, 0, INF
    for _, target in trials:
        misses += target
        rejected += not target
        detection = c_miss * p * misses / targets
        detection += c_fa * (1 - p) * (nontargets - rejected) / nontargets
        least = min(least, detection)
    return least / min(c_miss * p, c_fa * (1 - p))


def sre_cost(scores: Tensor, same: Tensor, beta: float, threshold: float) -> float:
    """P_miss + beta P_fa, as NIST's evaluation plans have it."""
    accepted = scores.numpy() >= threshold
    target = same.numpy()
    return float((~accepted[target]).mean() + beta * accepted[~target].mean())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("p", "c_miss", "c_fa"), [(0.01, 1, 1), (0.005, 1, 1), (0.05, 1, 1), (0.01, 10, 1), (0.2, 1, 3)]
)
def test_min_dcf_is_that_of_kaldi_and_of_nist(
    seed: int, p: float, c_miss: float, c_fa: float
) -> None:
    scores, same = scored_pairs(seed)
    ours = min_dcf(-scores, same, p, c_miss=c_miss, c_fa=c_fa)
    assert ours.cost == pytest.approx(kaldi_min_dcf(scores, same, p, c_miss, c_fa), abs=1e-9)
    beta = c_fa / c_miss * (1 - p) / p
    thresholds = [*scores.tolist(), INF]
    assert ours.cost == pytest.approx(
        min(sre_cost(scores, same, beta, t) for t in thresholds), abs=1e-9
    )
    assert ours.cost == pytest.approx(sre_cost(scores, same, beta, -ours.threshold), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_min_dcf_accepts_ties_together_and_may_accept_all(seed: int, p: float) -> None:
    scores, same = scored_pairs(seed, 60, decimals=0)
    costs = []
    for t in [*scores.tolist(), -INF, INF]:
        accepted = scores >= t
        fmr = accepted[~same].double().mean().item()
        fnmr = (~accepted[same]).double().mean().item()
        costs.append((p * fnmr + (1 - p) * fmr) / min(p, 1 - p))
    assert min_dcf(-scores, same, p).cost == pytest.approx(min(costs), abs=1e-12)


def test_costs_where_nothing_or_everything_is_best() -> None:
    same = torch.arange(20) < 10
    mixed = torch.zeros(20)
    assert min_dcf(mixed, same, 0.01).cost == 1
    assert min_dcf(mixed, same, 0.01).threshold == -INF
    assert min_dcf(mixed, same, 0.99).threshold == INF
    assert min_dcf((~same).float(), same).cost == 0
    assert min_dcf(same.float(), same, 0.5).cost == 1  # the wrong way round


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("p", "c_miss", "c_fa"), [(0.01, 1, 1), (0.005, 1, 1), (0.2, 2, 3)])
def test_actual_dcf_is_that_of_nist(seed: int, p: float, c_miss: float, c_fa: float) -> None:
    ratios, same = scored_pairs(seed)
    beta = c_fa / c_miss * (1 - p) / p
    ours = actual_dcf(ratios, same, p, c_miss=c_miss, c_fa=c_fa)
    assert ours.threshold == pytest.approx(math.log(beta))
    expected = sre_cost(ratios, same, beta, math.log(beta)) / min(1, beta)
    assert ours.cost == pytest.approx(expected, abs=1e-9)
    assert ours.cost >= min_dcf(-ratios, same, p, c_miss=c_miss, c_fa=c_fa).cost


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cllr_is_its_definition(seed: int, dtype: torch.dtype) -> None:
    ratios, same = scored_pairs(seed)
    s, target = ratios.to(dtype).numpy().astype(np.float64), same.numpy()
    costs = np.log2(1 + np.exp(-s[target])).mean(), np.log2(1 + np.exp(s[~target])).mean()
    assert cllr(ratios.to(dtype), same) == pytest.approx(sum(costs) / 2, abs=1e-12)


def test_cllr_of_ratios_without_a_bound() -> None:
    same = torch.tensor([True, False])
    assert cllr(torch.tensor([INF, -INF]), same) == 0
    assert cllr(torch.tensor([-INF, -INF]), same) == INF
    assert cllr(torch.tensor([800.0, 800.0]), same) == pytest.approx(400 / math.log(2))


def pav_cllr(distances: Tensor, same: Tensor) -> float:
    """Cllr of the ratios that scikit-learn's isotonic regression gives."""
    order = {d: rank for rank, d in enumerate(sorted(set(distances.tolist())))}
    ranks = np.array([order[d] for d in distances.tolist()], float)
    target = same.numpy()
    fit = IsotonicRegression(increasing=False).fit(ranks, target.astype(float))
    posterior = fit.predict(ranks)
    prior = target.mean()
    with np.errstate(divide="ignore"):
        ratios = np.log(posterior) - np.log1p(-posterior) - math.log(prior / (1 - prior))
        costs = np.logaddexp(0, -ratios[target]), np.logaddexp(0, ratios[~target])
    return float(costs[0].mean() + costs[1].mean()) / 2 / math.log(2)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, INF, -INF]) | st.floats(-3, 3), st.booleans()),
        min_size=2,
        max_size=40,
    ).filter(lambda drawn: len({same for _, same in drawn}) == 2)
)
def test_min_cllr_is_that_of_isotonic_regression(drawn: list[tuple[float, bool]]) -> None:
    distances = torch.tensor([d for d, _ in drawn], dtype=torch.float64)
    same = torch.tensor([s for _, s in drawn])
    assert min_cllr(distances, same) == pytest.approx(pav_cllr(distances, same), abs=1e-9)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_min_cllr_of_many_pairs(decimals: int | None) -> None:
    scores, same = scored_pairs(1, 3000, decimals)
    ours = min_cllr(-scores, same)
    assert ours == pytest.approx(pav_cllr(-scores, same), abs=1e-9)
    assert ours <= cllr(scores, same)


def test_figures_of_order_do_not_change_with_what_keeps_it() -> None:
    scores, same = scored_pairs(3, decimals=1)
    stretched = torch.exp(scores / 3)
    for metric in (min_cllr, eer_convex_hull, auc):
        assert metric(-scores, same) == metric(-stretched, same)
    assert min_dcf(-scores, same).cost == min_dcf(-stretched, same).cost
    assert eer(-scores, same).rate == eer(-stretched, same).rate


def test_large_sets_of_pairs_are_measured_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same = scored_pairs(5, 2000, decimals=2)
    metrics = (min_cllr, eer_convex_hull, auc)
    whole = [metric(-scores, same) for metric in metrics]
    cost, ratio = min_dcf(-scores, same), cllr(scores, same)
    for module in ("_hull", "verification", "costs"):
        monkeypatch.setattr(f"facenet_ext.metrics.{module}._CHUNK", 7)
    assert [metric(-scores, same) for metric in metrics] == whole
    assert min_dcf(-scores, same) == cost
    assert cllr(scores, same) == pytest.approx(ratio, abs=1e-12)


def test_a_hull_that_falls_apart_one_point_at_a_time() -> None:
    # A strictly concave curve, all of which a last tie takes back.
    counts = torch.arange(300, 0, -1)
    same = torch.cat([torch.tensor([True] * int(n) + [False]) for n in counts])
    distances = torch.arange(len(same), dtype=torch.float64)
    late = torch.full((200_000,), 1e9, dtype=torch.float64)
    distances = torch.cat([distances, late])
    same = torch.cat([same, torch.ones(200_000, dtype=torch.bool)])
    assert min_cllr(distances, same) == pytest.approx(pav_cllr(distances, same), abs=1e-9)


@pytest.mark.parametrize("one_pair", [True, False])
def test_single_pairs_of_each_kind(one_pair: bool) -> None:
    distances, same = torch.tensor([0.0, 1.0]), torch.tensor([one_pair, not one_pair])
    assert eer(distances, same).rate == eer_convex_hull(distances, same) * 2 == float(not one_pair)
    assert min_cllr(distances, same) == min_dcf(distances, same, 0.5).cost == float(not one_pair)
    assert fnmr_at_fmr(distances, same, 1.0).fnmr == 0
    assert error_rates(distances, same, 0.5).fmr == float(not one_pair)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_target": 0.0}, "p_target must be in"),
        ({"p_target": 1.0}, "p_target must be in"),
        ({"p_target": math.nan}, "p_target must be in"),
        ({"c_miss": 0.0}, "c_miss must be positive"),
        ({"c_fa": INF}, "c_fa must be positive"),
    ],
)
@pytest.mark.parametrize("metric", [min_dcf, actual_dcf])
def test_bad_costs_raise(metric: object, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(torch.rand(4), torch.arange(4) < 2, **options)  # type: ignore[operator]


@pytest.mark.parametrize("metric", [actual_dcf, cllr])
def test_ratios_that_are_no_numbers_raise(metric: object) -> None:
    with pytest.raises(ValueError, match="log_likelihood_ratios must be no NaN, got 1"):
        metric(torch.tensor([math.nan, 1.0]), torch.tensor([True, False]))  # type: ignore[operator]
