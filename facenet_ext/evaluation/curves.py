"""Curves of pairs with their distances (ROC, DET, histograms), and of searches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from facenet_ext.common.figures import ACCENT_COLOUR, DIFFERENT_COLOUR, SAME_COLOUR, new_figure
from facenet_ext.evaluation.compared import Compared
from facenet_ext.evaluation.search_summary import SearchSummary
from facenet_ext.metrics.thresholds import rates_at

__all__ = [
    "det_points",
    "draw_cmc",
    "draw_det",
    "draw_distances",
    "draw_fnir",
    "draw_roc",
    "roc_points",
]

_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4)
"""The ticks of a DET plot."""

_SIZE = (4.7, 4.4)
"""Inches. Two stand side by side, and one is as wide as a phone."""

Rates = NDArray[np.float64]


def draw_roc(compared: Compared) -> Figure:
    """Draw VAL over FAR, on a log axis from the smallest FAR the pairs can measure.

    The band has VAL at each FAR in 95 of 100 drawings of as many people.
    """
    smallest, _ = _least(compared)
    curve, summary = compared.curve, compared.summary
    figure, axes = new_figure(*_SIZE)
    _draw_band(axes, compared, lambda fmr, fnmr: (fmr, 1 - fnmr))
    points = roc_points(compared, curve.fmr.numpy(), curve.fnmr.numpy())
    axes.semilogx(*points.T, color=SAME_COLOUR, drawstyle="steps-post")
    for rate in (1e-3, 1e-2):
        found = summary.figures.get(f"fnmr_at_fmr_{rate:g}")
        if found is None or not math.isfinite(found.value):
            continue
        far, val = max(found.fmr, smallest), 1 - found.value
        axes.plot(far, val, "o", color=DIFFERENT_COLOUR)
        # The curve rises to the right, so there is room below and right of it; at the bottom there
        # is none.
        low = val < 0.15
        axes.annotate(
            f"VAL {val:.1%}\nat FAR {rate:g}",
            (far, val),
            xytext=(-8, 6) if low else (8, -8),
            textcoords="offset points",
            ha="right" if low else "left",
            va="bottom" if low else "top",
        )
    chance = np.logspace(math.log10(smallest), 0, 100)
    axes.plot(chance, chance, ":", color=ACCENT_COLOUR, label="chance")
    auc, eer = (summary.figures[key].value for key in ("auc", "eer"))
    axes.set(
        xlim=(smallest, 1),
        ylim=(0, 1.02),
        xlabel=f"FMR (FAR), of {summary.different:,} pairs of two",
        ylabel=f"1 - FNMR (VAL), of {summary.same:,} pairs of one",
        title=f"ROC, AUC {auc:.4f}, EER {eer:.1%}",
    )
    figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize="small")
    return figure


def roc_points(compared: Compared, fmr: Rates, fnmr: Rates) -> Rates:
    """Return [T, 2], where rates lie in the picture of :func:`draw_roc`, in its own units."""
    return np.stack([np.maximum(fmr, _least(compared)[0] / 2), 1 - fnmr], axis=1)


def draw_det(compared: Compared) -> Figure:
    """Draw FNMR over FMR on normal-deviate axes, from the smallest rates the pairs can measure.

    Normal distances make a straight line. The band has FNMR at each FMR in 95 of 100 drawings of
    as many people.
    """
    curve, summary, least = compared.curve, compared.summary, _least(compared)
    figure, axes = new_figure(*_SIZE)
    _draw_band(axes, compared, lambda fmr, fnmr: _on_axes(compared, fmr, fnmr))
    points = det_points(compared, curve.fmr.numpy(), curve.fnmr.numpy())
    axes.plot(*points.T, color=SAME_COLOUR, drawstyle="steps-post")
    pairs = compared.pairs.sorted()
    for key, marker in (("eer", "o"), ("min_dcf", "s")):
        found = summary.figures[key]
        if math.isfinite(found.threshold):
            missed = rates_at(pairs, found.threshold).fnmr
            (place,) = det_points(compared, np.array([found.fmr]), np.array([missed]))
            label = f"{'EER' if key == 'eer' else 'minDCF'} {found.value:.3f}"
            axes.plot(*place, marker, color=DIFFERENT_COLOUR, label=label)
    axes.axline((0, 0), slope=1, linestyle=":", color=ACCENT_COLOUR)  # equal rates
    for axis, low in zip((axes.xaxis, axes.yaxis), least, strict=True):
        ticks = [rate for rate in _RATES if rate >= low]
        axis.set_ticks(_deviates(ticks), [f"{100 * rate:g}" for rate in ticks])
    most = _deviates(0.6)
    axes.set(
        xlim=(_deviates(least[0]), most),
        ylim=(_deviates(least[1]), most),
        xlabel=f"FMR in %, of {summary.different:,} pairs of two",
        ylabel=f"FNMR in %, of {summary.same:,} pairs of one",
        title="Detection error trade-off",
    )
    figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize="small")
    return figure


def det_points(compared: Compared, fmr: Rates, fnmr: Rates) -> Rates:
    """Return [T, 2], where rates lie in the picture of :func:`draw_det`, in its own units."""
    return np.stack(_on_axes(compared, fmr, fnmr), axis=1)


def _on_axes(compared: Compared, fmr: Rates, fnmr: Rates) -> tuple[Rates, Rates]:
    least = _least(compared)
    return _deviates(np.maximum(fmr, least[0] / 2)), _deviates(np.maximum(fnmr, least[1] / 2))


def _draw_band(axes: Axes, compared: Compared, place: Any) -> None:
    drawn = compared.summary.replicates
    if drawn is None:
        return
    rates = np.logspace(math.log10(_least(compared)[0]), math.log10(0.999), 80)
    lower, upper = (place(rates, end) for end in drawn.band(rates.tolist()))
    axes.fill_between(
        lower[0], lower[1], upper[1], color=SAME_COLOUR, alpha=0.2, linewidth=0, label="95\u00a0%"
    )


def _least(compared: Compared) -> tuple[float, float]:
    """Return the smallest FMR and FNMR above 0 that the pairs can measure."""
    return 1 / compared.summary.different, 1 / compared.summary.same


def _deviates(rates: Any) -> Rates:
    """Return where rates lie on normal-deviate axes."""
    deviates: Rates = torch.special.ndtri(torch.as_tensor(rates, dtype=torch.float64)).numpy()
    return deviates


def draw_distances(compared: Compared, title: str = "Distances") -> Figure:
    """Draw how the distances of same and of different pairs are spread, with the threshold."""
    pairs = compared.pairs.sorted()
    bins = np.linspace(0, float(max(pairs.same[-1], pairs.different[-1])) * 1.02, 61)
    figure, axes = new_figure(*_SIZE)
    for part, colour, name in (
        (pairs.same, SAME_COLOUR, "same"),
        (pairs.different, DIFFERENT_COLOUR, "different"),
    ):
        counts = np.diff(part.searchsorted(bins.astype(part.dtype)))
        label = f"{len(part):,} {name} pairs"
        axes.stairs(counts / counts.sum(), bins, fill=True, color=colour, alpha=0.55, label=label)
    if math.isfinite(compared.threshold):  # -inf accepts nothing: no threshold tells them apart
        label = f"threshold {compared.threshold:.3f}"
        axes.axvline(compared.threshold, color=ACCENT_COLOUR, linestyle="--", label=label)
    axes.set(
        xlim=(0, bins[-1]),
        xlabel="squared Euclidean distance",
        ylabel="share of pairs",
        title=title,
    )
    figure.legend(loc="outside lower center", ncol=2, frameon=False, fontsize="small")
    return figure


def draw_cmc(found: SearchSummary) -> Figure:
    """Draw the share of known probes found by each rank: 1 - FNIR of investigations."""
    figure, axes = new_figure(4.7, 3.8)
    axes.plot(range(1, len(found.cmc) + 1), found.cmc, ".-", color=SAME_COLOUR)
    axes.set(
        ylim=(0, 1.02),
        xlabel="rank",
        ylabel="1 - FNIR, however far",
        title=f"Found by each rank, of {found.known:,} probes",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_fnir(found: SearchSummary) -> Figure:
    """Draw FNIR over FPIR at rank 1, from the smallest FPIR that the probes can measure."""
    smallest = 1 / found.unknown
    figure, axes = new_figure(4.7, 3.8)
    fpir = [max(point.false_alarms, smallest / 2) for point in found.open_set]
    fnir = [1 - point.identified for point in found.open_set]
    axes.semilogx(fpir, fnir, color=SAME_COLOUR, drawstyle="steps-post")
    axes.set(
        xlim=(smallest, 1),
        ylim=(0, 1.02),
        xlabel=f"FPIR, of {found.unknown:,} probes of others",
        ylabel=f"FNIR, rank 1, of {found.known:,} probes",
        title="Misses over false alarms",
    )
    return figure
