"""The figures of millions of trials, from distances that are sorted where they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.files import without_nan
from facenet_ext.metrics import EqualErrorRate, OperatingPoint

__all__ = ["RATES", "TrialSummary", "summarise"]

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false accept rates that are reported for IJB-B and IJB-C."""

_CHUNK = 1 << 18
_POINTS = 512


class TrialSummary(NamedTuple):
    """How well distances tell trials of one identity from those of two.

    Attributes:
        same: trials of one identity.
        different: trials of two.
        val_far: VAL at each wanted FAR.
        eer: the equal error rate.
        auc: area under the ROC curve.
        curve: at most 512 points of it: thresholds, VAL and FAR.
    """

    same: int
    different: int
    val_far: tuple[OperatingPoint, ...]
    eer: EqualErrorRate
    auc: float
    curve: dict[str, list[float]]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them: None where there is no number."""
        figures = {
            "trials": {"same": self.same, "different": self.different},
            "val_far": [point._asdict() for point in self.val_far],
            "eer": self.eer.rate,
            "eer_threshold": self.eer.threshold,
            "auc": self.auc,
            "curve": self.curve,
        }
        return dict(without_nan(figures))


class _Sorted(NamedTuple):
    """Distances of each kind, ascending."""

    same: NDArray[np.float32]
    different: NDArray[np.float32]

    def accepted(self, threshold: float) -> tuple[int, int]:
        """Return how many trials of each kind a threshold accepts."""
        at = np.float32(threshold)
        same, different = (int(np.searchsorted(values, at, "right")) for values in self)
        return same, different

    def below(self, threshold: float) -> float:
        """Return the largest distance below a threshold, -inf where there is none."""
        at = np.float32(threshold)
        found = [values[: np.searchsorted(values, at, "left")][-1:] for values in self]
        return float(np.concatenate(found).max(initial=-np.inf))


def summarise(distances: NDArray[np.float32], same: NDArray[np.bool_]) -> TrialSummary:
    """Measure how well distances tell trials of one identity from those of two.

    The figures are exactly those of :func:`facenet_ext.metrics.val_far`, ``eer`` and ``auc``. The
    distances are sorted in their own memory, so that nothing else of that size is needed:
    afterwards ``distances`` is in another order.

    Args:
        distances: [T] float32; smaller means more alike.
        same: [T] bool.

    Returns:
        The :class:`TrialSummary`.

    Raises:
        ValueError: a distance is not finite, or one of the two kinds is missing.

    Example:
        >>> distances = np.array([0.1, 0.4, 0.3, 0.9], np.float32)
        >>> found = summarise(distances, np.array([True, True, False, False]))
        >>> found.auc, found.eer.rate
        (0.75, 0.5)

    Source: see :mod:`facenet_ext.metrics`.
    """
    if not np.isfinite(distances.min(initial=0)) or not np.isfinite(distances.max(initial=0)):
        raise ValueError("distances must be finite, got NaN or infinite ones")
    values = _sort(distances, same)
    n_same, n_different = len(values.same), len(values.different)
    if not n_same or not n_different:
        raise ValueError(
            f"same must have trials of both kinds, got {n_same} of one identity and "
            f"{n_different} of two"
        )
    return TrialSummary(
        n_same,
        n_different,
        tuple(_val_far(values, far) for far in RATES),
        _eer(values),
        _auc(values),
        _curve(values),
    )


def _sort(distances: NDArray[np.float32], same: NDArray[np.bool_]) -> _Sorted:
    genuine = distances[same]
    count = 0
    for begin in range(0, len(distances), _CHUNK):  # the others move to the front
        part = slice(begin, begin + _CHUNK)
        rest = distances[part][~same[part]]
        distances[count : count + len(rest)] = rest
        count += len(rest)
    distances[count:] = genuine
    different, genuine = distances[:count], distances[count:]
    genuine.sort()
    different.sort()
    return _Sorted(genuine, different)


def _val_far(values: _Sorted, far: float) -> OperatingPoint:
    n_same, n_different = map(len, values)
    # Counts are compared, with room for rounding, as facenet_ext.metrics.val_far does.
    allowed = math.floor(far * n_different * (1 + 1e-12))
    limit = float(values.different[allowed]) if allowed < n_different else math.inf
    threshold = values.below(limit)
    if threshold == -math.inf:  # even the smallest distance accepts too much
        return OperatingPoint(far, False, math.nan, math.nan, math.nan)
    same, different = values.accepted(threshold)
    return OperatingPoint(far, allowed >= 1, same / n_same, different / n_different, threshold)


def _eer(values: _Sorted) -> EqualErrorRate:
    n_same, n_different = map(len, values)

    def balance(threshold: float) -> int:
        same, different = values.accepted(threshold)
        return different * n_same + same * n_different - n_same * n_different

    def first(of: NDArray[np.float32]) -> float:
        """Return the first value from which on the balance is not negative."""
        low, high = 0, len(of)
        while low < high:
            middle = (low + high) // 2
            if balance(of[middle]) < 0:
                low = middle + 1
            else:
                high = middle
        return float(of[low]) if low < len(of) else math.inf

    after = min(map(first, values))
    before = values.below(after)
    lower, upper = balance(before), balance(after)
    share = -lower / (upper - lower)
    far, then = (values.accepted(at)[1] / n_different for at in (before, after))
    return EqualErrorRate(far + share * (then - far), after)


def _auc(values: _Sorted) -> float:
    """Return the share of pairs of trials, one of each kind, in the right order; ties a half."""
    nearer, as_near = (
        np.searchsorted(values.different, values.same, side) for side in ("left", "right")
    )
    wrong = (int(nearer.sum()) + int(as_near.sum())) / 2
    return 1 - wrong / (len(values.same) * len(values.different))


def _curve(values: _Sorted) -> dict[str, list[float]]:
    """Return points at ranks of the trials of two identities: evenly, and by their logarithm."""
    last = len(values.different) - 1
    even = np.linspace(0, last, _POINTS // 2)
    small = np.geomspace(1, last + 1, _POINTS // 2) - 1
    ranks = np.unique(np.concatenate([even, small]).round().astype(np.int64))
    at = np.unique(np.append(values.different[ranks], max(of[-1] for of in values)))
    val, far = (np.searchsorted(of, at, "right") / len(of) for of in values)
    return {"thresholds": at.astype(np.float64).tolist(), "val": val.tolist(), "far": far.tolist()}
