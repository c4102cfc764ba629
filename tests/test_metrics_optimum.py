"""Claims about figures of the best of many thresholds: how they vary, and by how much they gain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm  # type: ignore[import-untyped]
from test_metrics_intervals import pairs_of_people

from facenet_ext.metrics import Replicates, _curves, interval_of, resample_identities, summarize


def test_an_optimum_gains_more_around_a_smooth_curve() -> None:
    """The best threshold is a lucky one: replicates of the same curve would repeat that."""
    gained = []
    for seed in range(6):
        drawn = resample_identities(**pairs_of_people(seed, people=60), replicates=400)
        costs, around = drawn.min_cllr(), _curves.min_cllr(drawn.fmr, drawn.fnmr)
        assert costs[0] == around[0]
        gained.append((costs[0] - costs[1:].mean()) / (around[0] - around[1:].mean()))
    assert 1.5 < np.mean(gained) < 3, gained


@pytest.mark.parametrize("key", ["min_cllr", "min_dcf", "eer_convex_hull"])
def test_an_optimum_moves_as_its_best_threshold_does(key: str) -> None:
    """To the first order it is linear in the deviations, and what it gains is above that."""
    drawn = resample_identities(**pairs_of_people(people=60), replicates=400)
    of = [rates[0] + 2 * (rates - rates[0]) for rates in (drawn.fmr, drawn.fnmr)]
    rows = getattr(drawn, key)()
    doubled = getattr(dataclasses.replace(drawn, fmr=of[0], fnmr=of[1]), key)()
    assert np.corrcoef(rows[1:], doubled[1:])[0, 1] > 0.99
    assert doubled[1:].std() == pytest.approx(2 * rows[1:].std(), rel=0.05)
    assert doubled[0] - doubled[1:].mean() > 1.5 * (rows[0] - rows[1:].mean()) > 0


def test_the_luck_of_an_optimum_is_taken_back() -> None:
    drawn = 0.3 - 0.01 + 0.02 * np.random.default_rng(0).normal(size=50_000)
    figures = np.append(0.3, drawn)
    plain = interval_of(figures - figures[1:].mean() + 0.31, 0.31)
    found = interval_of(figures, kind="optimum")
    assert sum(found) / 2 == pytest.approx(0.31, abs=5e-4)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.02, rel=0.02)
    assert plain.high - plain.low == pytest.approx(found.high - found.low, rel=0.05)
    finer = interval_of(figures, 0.298, kind="optimum")
    assert tuple(finer) == pytest.approx([end - 0.002 for end in found])


def test_a_smooth_curve_leaves_out_the_steps() -> None:
    """Points that are off a straight DET by chance are put on it."""
    on_axis, off = np.linspace(-2, 2, 100), 0.1 * np.random.default_rng(0).normal(size=(2, 100))
    points = norm.cdf(on_axis + off[0]), norm.sf(on_axis + 1 + off[1])
    rows = [
        np.pad(of, 1, constant_values=ends)[None]
        for of, ends in zip(points, ((0, 1), (1, 0)), strict=True)
    ]
    smooth = _curves.smoothed(rows[0], rows[1], 10_000, 10_000)
    apart = [norm.ppf(x[0, 1:-1]) + norm.ppf(y[0, 1:-1]) + 1 for x, y in (rows, smooth)]
    assert apart[1].std() < 0.3 * apart[0].std()
    assert abs(apart[1].mean()) < 0.03
    assert np.all(np.diff(smooth[0]) >= 0)
    assert np.all(np.diff(smooth[1]) <= 0)


@pytest.mark.parametrize(
    ("figure", "curve"),
    [
        (Replicates.eer, _curves.eer),
        (lambda of: of.fnmr_at_fmr(0.1), lambda fmr, fnmr: _curves.fnmr_at(fmr, fnmr, 0.1)),
    ],
    ids=["EER", "FNMR at FMR"],
)
def test_where_the_threshold_moves_replicates_are_not_biased_by_the_steps(
    figure: Callable[[Replicates], _curves.Rows], curve: _curves.Figure
) -> None:
    """Replicates of the curve itself are, those of each set of pairs by another amount."""
    biases = []
    for seed in range(12):
        drawn = resample_identities(**pairs_of_people(seed, people=60), replicates=400)
        around = figure(drawn), curve(drawn.fmr, drawn.fnmr)
        assert around[0][0] == around[1][0]
        assert around[0].std() == pytest.approx(around[1].std(), rel=0.25)
        biases.append([(rows[1:].mean() - rows[0]) / rows.std() for rows in around])
    smooth, plain = np.std(biases, axis=0)
    assert smooth < 0.5 * plain


@pytest.mark.parametrize("nearer", [0.0, 0.2], ids=["right", "wrong"])
def test_where_nothing_varies_an_optimum_has_no_interval(nearer: float) -> None:
    same = torch.tensor([True, False] * 100)
    ends = [torch.tensor(pair * 100) for pair in ([1, 3], [2, 4])]
    found = summarize(1.9 + 0.1 * ~same - 2 * nearer * ~same, same, *ends).figures["min_dcf"]
    assert math.isnan(found.interval.low)
