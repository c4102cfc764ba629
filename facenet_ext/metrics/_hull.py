"""The convex hull of the ROC, which has the best threshold of every prior and cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.metrics._comparisons import Comparisons

__all__ = ["Hull", "hull_of"]

_CHUNK = 2**18


@dataclasses.dataclass(frozen=True)
class Hull:
    """The vertices of the convex hull of the ROC, from rejecting all pairs to accepting all.

    Its edges are the bins of the pool-adjacent-violators algorithm.

    Attributes:
        thresholds: [V]; the first is -inf and the last inf.
        false_matches: [V] int64, different pairs accepted.
        matches: [V] int64, same pairs accepted.
    """

    thresholds: NDArray[Any]
    false_matches: NDArray[np.int64]
    matches: NDArray[np.int64]

    @property
    def fmr(self) -> NDArray[np.float64]:
        """[V], from 0 to 1."""
        rates: NDArray[np.float64] = self.false_matches / self.false_matches[-1]
        return rates

    @property
    def fnmr(self) -> NDArray[np.float64]:
        """[V], from 1 to 0."""
        rates: NDArray[np.float64] = (self.matches[-1] - self.matches) / self.matches[-1]
        return rates

    def equal_error_rate(self) -> float:
        """Return where the hull crosses FMR = FNMR."""
        fmr, fnmr = self.fmr, self.fnmr
        after = int((fmr < fnmr).sum())  # never 0: the first vertex has FMR 0 and FNMR 1
        gaps = fnmr[after - 1 : after + 1] - fmr[after - 1 : after + 1]
        share = gaps[0] / (gaps[0] - gaps[1])
        return float(fmr[after - 1] + share * (fmr[after] - fmr[after - 1]))


def hull_of(pairs: Comparisons) -> Hull:
    """Return the hull of the ROC of some pairs."""
    # Only a threshold that is a same pair's distance can be a vertex: a larger one up to the next
    # such distance accepts no more of them.
    first = np.array([[0], [0]]), np.array([-np.inf])
    last = np.array([[len(pairs.different)], [len(pairs.same)]]), np.array([np.inf])
    points, thresholds = first
    for begin in range(0, len(pairs.same), _CHUNK):
        some = pairs.same[begin : begin + _CHUNK]
        some = some[np.append(some[1:] != some[:-1], True)]
        matches, false_matches = pairs.accepted(some)
        points = np.concatenate([points, np.stack([false_matches, matches])], axis=1)
        thresholds = np.concatenate([thresholds, some])
        kept = _upper(*points)
        points, thresholds = points[:, kept], thresholds[kept]
    points = np.concatenate([points, last[0]], axis=1)
    thresholds = np.concatenate([thresholds, last[1]])
    kept = _upper(*points)
    return Hull(thresholds[kept], points[0, kept], points[1, kept])


def _upper(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which points are vertices of the upper hull; x and y never fall along the points."""
    new = np.append((x[1:] != x[:-1]) | (y[1:] != y[:-1]), True)  # the last of equal points
    kept: NDArray[np.int64] = np.flatnonzero(new)
    while len(kept) > 2:  # all points at once that lie on or below the line between neighbours
        dx, dy = np.diff(x[kept]), np.diff(y[kept])
        vertex = np.append(True, np.append(dy[:-1] * dx[1:] > dy[1:] * dx[:-1], True))
        before = len(kept)
        kept = kept[vertex]
        if len(kept) == before:
            return kept
        if len(kept) > 0.9 * before:
            break
    chain: list[tuple[int, int, int]] = []  # Andrew's algorithm, for the few that are left
    for point in zip(x[kept].tolist(), y[kept].tolist(), kept.tolist(), strict=True):
        while len(chain) > 1:
            (ax, ay, _), (bx, by, _) = chain[-2:]
            if (by - ay) * (point[0] - bx) > (point[1] - by) * (bx - ax):
                break
            chain.pop()
        chain.append(point)
    return np.array([place for _, _, place in chain])
