"""Claims about the figures of a verification: its table, its JSON and its DET plot."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import norm  # type: ignore[import-untyped]
from torch.nn.functional import normalize

from facenet_ext.data.pairs import Pairs, all_pairs
from facenet_ext.evaluation.compared import as_dict
from facenet_ext.evaluation.curves import draw_det
from facenet_ext.evaluation.table import table
from facenet_ext.evaluation.verification import Verification, verify
from facenet_ext.metrics import det_curve


def verification(spread: float = 1.2, *, named: bool = True) -> Verification:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) // 8
    centres = torch.randn(30, 32, generator=generator)
    embeddings = centres[labels] + spread * torch.randn(240, 32, generator=generator)
    pairs = all_pairs(labels)
    if not named:
        folds = torch.arange(len(pairs.same)) % 10
        pairs = Pairs(pairs.first, pairs.second, pairs.same, folds)
    return verify(normalize(embeddings), pairs)


def shown(of: Verification) -> str:
    console = Console(width=140, record=True)
    with console.capture() as capture:
        console.print(table(of))
    return capture.get()


def test_the_table_has_an_interval_beside_each_figure() -> None:
    found = verification()
    rows = {line.split("│")[1].strip(): line for line in shown(found).splitlines() if "│" in line}
    low, high = found.summary.figures["fnmr_at_fmr_0.01"].interval
    assert f"({1 - high:.1%} to {1 - low:.1%})" in rows["VAL at FAR 0.01"]
    low, high = found.summary.figures["eer"].interval
    assert f"{found.eer:.1%} ({low:.1%} to {high:.1%})" in rows["EER"]
    assert "fewer than 30 errors" in rows["VAL at FAR 0.001"]  # 27 of 27,000 different pairs
    assert "fewer than 30 errors" not in rows["EER"]


def test_where_nobody_is_named_there_are_figures_without_intervals() -> None:
    found = verification(named=False)
    assert found.summary.identities is None
    assert " to " not in shown(found)
    assert json.dumps(as_dict(found.summary), allow_nan=False)
    draw_det(found.compared)


def test_json_has_each_figure_with_its_interval() -> None:
    found = verification()
    summary = json.loads(json.dumps(as_dict(found.summary), allow_nan=False))
    assert summary["identities"] == 30
    assert summary["confidence"] == 0.95
    eer = summary["figures"]["eer"]
    assert eer["value"] == found.eer
    assert eer["interval"] == list(found.summary.figures["eer"].interval)
    beyond = summary["figures"]["fnmr_at_fmr_1e-05"]
    assert beyond["value"] is None
    assert beyond["interval"] == [None, None]
    assert beyond["remark"] == "not reachable with this many"
    val = summary["figures"]["fnmr_at_fmr_0.01"]
    assert val["value"] == pytest.approx(1 - found.val_far[1].val)


def test_the_det_plot_has_the_curve_on_normal_deviates() -> None:
    found = verification()
    axes = draw_det(found.compared).axes[0]
    x, y = axes.lines[0].get_data()
    same = found.pairs.same
    curve = det_curve(found.distances, same)
    inside = (curve.fmr > 0) & (curve.fnmr > 0)
    on_curve = {
        (round(float(a), 9), round(float(b), 9))
        for a, b in zip(norm.ppf(curve.fmr), norm.ppf(curve.fnmr), strict=True)
    }
    points = np.stack([np.asarray(x), np.asarray(y)], 1).round(9)
    beyond = norm.ppf([0.5 / int((~same).sum()), 0.5 / int(same.sum())])  # of rates that are 0
    measured = [tuple(p) for p in points if (p > beyond + 1e-6).all() and np.isfinite(p).all()]
    assert len(measured) > 100
    assert set(measured) <= on_curve
    assert int(inside.sum()) >= len(measured)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["0.01", "0.1", "1", "5", "20", "40"]
    assert norm.cdf(axes.get_xticks()) == pytest.approx([float(t) / 100 for t in ticks])
    assert len(axes.collections) == 1  # the band
    assert axes.get_xlim()[0] == pytest.approx(norm.ppf(1 / int((~same).sum())))
