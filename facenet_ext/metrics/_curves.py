"""Figures of many error curves at once.

A curve is a row of FMR, ascending from 0 to 1, and of FNMR, descending from 1 to 0, at the same
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    *("Figure", "Rows", "around_smooth", "auc", "eer", "eer_convex_hull", "fnmr_at"),
    *("min_cllr", "moving", "optimum"),
]

Rows = NDArray[np.float64]
Figure = Callable[[Rows, Rows], Rows]

_BANDWIDTH = 1.0
"""Of the difference of two deviates: half a standard deviation of normal distances."""

_STEP = 0.01
"""Along deviations: too small for another threshold to become the best."""

_FOR_A_MEAN = 256
"""Replicates that tell what is gained by a choice, on average."""

_HALVINGS = 20
_LOG_ODDS = np.linspace(-16, 16, 129)
"""Of the prior: beyond, the least error is below 1e-7 of the prior's smaller side."""


def fnmr_at(fmr: Rows, fnmr: Rows, rate: float) -> Rows:
    """Return FNMR where each curve has an FMR, interpolated."""
    before = np.minimum((fmr <= rate).sum(1) - 1, fmr.shape[1] - 2)
    (x0, x1), (y0, y1) = (_around(of, before) for of in (fmr, fnmr))
    share = np.where(x1 > x0, (rate - x0) / np.where(x1 > x0, x1 - x0, 1), 0)
    interpolated: Rows = y0 + share * (y1 - y0)
    return interpolated


def eer(fmr: Rows, fnmr: Rows) -> Rows:
    """Return where each curve has FMR = FNMR, interpolated."""
    before = (fmr < fnmr).sum(1) - 1  # at least 0, where they are 0 and 1
    (x0, x1), (y0, y1) = (_around(of, before) for of in (fmr, fnmr))
    rate: Rows = x0 + (y0 - x0) / ((y0 - x0) - (y1 - x1)) * (x1 - x0)
    return rate


def eer_convex_hull(fmr: Rows, fnmr: Rows) -> Rows:
    """Return the maximum over priors p of the least error, min over t of p FNMR + (1 - p) FMR.

    The least error is concave in p, with the slope FNMR - FMR at the best threshold.
    """
    low, high = np.zeros(len(fmr)), np.ones(len(fmr))
    for _ in range(_HALVINGS):
        prior = (low + high) / 2
        errors = fmr + prior[:, None] * (fnmr - fmr)
        best = errors.argmin(1)[:, None]
        rising = (np.take_along_axis(fnmr, best, 1) > np.take_along_axis(fmr, best, 1))[:, 0]
        low, high = np.where(rising, prior, low), np.where(rising, high, prior)
    least: Rows = (fmr + ((low + high) / 2)[:, None] * (fnmr - fmr)).min(1)
    return least


def auc(fmr: Rows, fnmr: Rows) -> Rows:
    """Return the area under each ROC."""
    area: Rows = (np.diff(fmr) * (2 - fnmr[:, 1:] - fnmr[:, :-1])).sum(1) / 2
    return area


def min_cllr(fmr: Rows, fnmr: Rows) -> Rows:
    """Return the minimum Cllr of each curve.

    It is the integral of the least error over the log odds of the prior, divided by 2 log 2.
    """
    area = np.zeros(len(fmr))
    for odds in _LOG_ODDS:
        prior = 1 / (1 + math.exp(-odds))
        area += (fmr + prior * (fnmr - fmr)).min(1)
    area *= (_LOG_ODDS[1] - _LOG_ODDS[0]) / (2 * math.log(2))
    return area


def around_smooth(fmr: Rows, fnmr: Rows, different: int, same: int) -> tuple[Rows, Rows]:
    """Return a smooth curve, and curves that deviate from it as replicates from their own.

    Args:
        fmr: [1 + R, T].
        fnmr: [1 + R, T].
        different: number of pairs that FMR is of.
        same: number of pairs that FNMR is of.
    """
    smooth = smoothed(fmr[:1], fnmr[:1], different, same)
    curves = [_cut(of + (rows - rows[:1])) for of, rows in zip(smooth, (fmr, fnmr), strict=True)]
    return curves[0], curves[1]


def moving(figure: Figure, fmr: Rows, fnmr: Rows, around: tuple[Rows, Rows]) -> Rows:
    """Return a figure whose threshold moves with the curve, of a curve and of replicates of it.

    How uneven the curve is at that threshold is chance. Replicates of the same curve would all
    have that unevenness: they are biased by it, and vary as its slope there. So they are taken
    around a smooth curve S, deviating by D:

        row = figure(curve) + figure(S + D) - figure(S)

    Args:
        figure: of rows of FMR and of FNMR.
        fmr: [1 + R, T].
        fnmr: [1 + R, T].
        around: what :func:`around_smooth` returns of these.

    Returns:
        [1 + R]; the first is the figure of the curve itself. Without an error, and with nothing but
        errors, replicates are of this curve.

    Source: Hall, DiCiccio, Romano, *On smoothing and the bootstrap*, Annals of Statistics 1989.
    """
    value = figure(fmr[:1], fnmr[:1])
    if value in (0, 1):
        return figure(fmr, fnmr)
    rows = figure(*around)
    moved: Rows = value + (rows - rows[0])
    return moved


def optimum(
    figure: Figure,
    fmr: Rows,
    fnmr: Rows,
    around: tuple[Rows, Rows],
    different: int,
    same: int,
) -> Rows:
    """Return a figure of the best of many thresholds, of a curve and of replicates of it.

    The best threshold is best by luck too: there are fewer errors than among other people.
    Replicates of the same uneven curve would repeat that luck: they vary too little, and gain less
    by the choice than the curve has. So they are taken around a smooth curve S, deviating by D:

        row = figure(curve) + slope of the figure at S along D - gain

    The gain is what S + D gains by the choice on average, and half a pair of either kind: the best
    threshold is just behind a same pair, or just before a different one.

    Args:
        figure: of rows of FMR and of FNMR.
        fmr: [1 + R, T].
        fnmr: [1 + R, T].
        around: what :func:`around_smooth` returns of these.
        different: number of pairs that FMR is of.
        same: number of pairs that FNMR is of.

    Returns:
        [1 + R]; the first is the figure of the curve itself. Without an error all rows are 0.

    Source: Cattaneo, Jansson, Nagasawa, *Bootstrap-based inference for cube root asymptotics*,
    Econometrica 2020; Hong, Li, *The numerical delta method*, Journal of Econometrics 2018, for the
    slope.
    """
    value = figure(fmr[:1], fnmr[:1])
    if value == 0:
        return figure(fmr, fnmr)
    curve = [of[:1] for of in around]
    deviations = fmr - fmr[:1], fnmr - fnmr[:1]
    at = figure(*curve)
    along = [of + _STEP * by for of, by in zip(curve, deviations, strict=True)]
    slopes = (figure(*along) - at) / _STEP
    if not slopes.any():  # nothing varies there
        return value + slopes
    some = slice(1, 1 + _FOR_A_MEAN)
    moved = figure(*(of[some] for of in around))
    halved = [_cut(of - 0.5 / count) for of, count in zip(curve, (different, same), strict=True)]
    gain = (slopes[some] - (moved - at)).mean() + at - figure(*halved)
    rows: Rows = value + slopes - gain
    rows[0] = value[0]
    return rows


def _cut(rows: Rows) -> Rows:
    """Return curves of rates: from 0 to 1, and never falling, or never rising if they end lower."""
    monotone = np.maximum if rows[0, -1] > rows[0, 0] else np.minimum
    risen: Rows = monotone.accumulate(rows, axis=1)
    return np.clip(risen, 0, 1, out=risen)


def smoothed(fmr: Rows, fnmr: Rows, different: int, same: int) -> tuple[Rows, Rows]:
    """Smooth a curve on normal-deviate axes, by local linear regression; see :func:`moving`.

    Source: Fan, Gijbels, *Local polynomial modelling and its applications*, 1996, section 2.3.
    """
    inside = slice(1, -1)  # the first threshold accepts nothing, the last all
    deviates = [
        torch.special.ndtri(torch.from_numpy((rows[0, inside] * count + 0.5) / (count + 1))).numpy()
        for rows, count in ((fmr, different), (fnmr, same))
    ]
    place = deviates[0] - deviates[1]  # linear in the distance where distances are normal
    apart = place - place[:, None]
    near = np.exp(-((apart / _BANDWIDTH) ** 2) / 2)
    first, second = (near * apart).sum(1, keepdims=True), (near * apart**2).sum(1, keepdims=True)
    weights = near * (second + 1e-9 - apart * first)  # a single threshold has no slope
    weights /= weights.sum(1, keepdims=True)
    curves = []
    for rows, deviate in zip((fmr, fnmr), deviates, strict=True):
        curve = rows[:1].copy()
        curve[0, inside] = torch.special.ndtr(torch.from_numpy(weights @ deviate)).numpy()
        curves.append(_cut(curve))
    return curves[0], curves[1]


def _around(rows: Rows, before: NDArray[np.intp]) -> tuple[Rows, Rows]:
    at = before[:, None]
    here = np.take_along_axis(rows, at, 1)[:, 0]
    return here, np.take_along_axis(rows, at + 1, 1)[:, 0]
