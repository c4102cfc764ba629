"""Figures of many error curves at once.

A curve is a row of FMR, ascending from 0 to 1, and of FNMR, descending from 1 to 0, at the same
thresholds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "auc", "eer", "eer_convex_hull", "fnmr_at", "min_cllr"]

Rows = NDArray[np.float64]

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


def _around(rows: Rows, before: NDArray[np.intp]) -> tuple[Rows, Rows]:
    at = before[:, None]
    here = np.take_along_axis(rows, at, 1)[:, 0]
    return here, np.take_along_axis(rows, at + 1, 1)[:, 0]
