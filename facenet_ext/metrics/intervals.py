"""Intervals of a figure, and of the difference of two, from what replicates of them are."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Difference", "Interval", "interval_of", "paired_difference"]


class Interval(NamedTuple):
    """Where a figure of other people of the same kind is likely to be.

    Attributes:
        low: its lower end.
        high: its upper end.
    """

    low: float
    high: float


class Difference(NamedTuple):
    """By how much a figure of one system is above that of another, on the same pairs.

    Attributes:
        value: the difference of the two figures, the first minus the second.
        interval: of the difference.
        above: the share of replicates in which the first figure is the larger one, ties by half.
    """

    value: float
    interval: Interval
    above: float


def interval_of(
    figures: NDArray[np.float64],
    value: float | None = None,
    *,
    confidence: float = 0.95,
    independent: int | None = None,
    kind: Literal["mean", "rate", "optimum"] = "mean",
) -> Interval:
    """Return the interval of a figure, from what replicates of it are.

    It is Efron's bias-corrected and accelerated interval, with the skewness of the replicates for
    that of the influences, which it is where a figure is a sum over identities.

    Where no error was made, replicates have none either. The rule of 3 then says what rate of
    errors may have gone unseen; of other figures there is no interval.

    An optimum, the best of many thresholds, is better on the pairs at hand than with other people,
    and the replicates of :class:`Replicates` are better again by as much. The interval is around
    what is left when that is taken back. (A bias so large would mislead Efron's interval.)

    Args:
        figures: [1 + R], of the pairs themselves and of the replicates.
        value: the exact figure of the pairs, by default the first of ``figures``.
        confidence: how often such intervals have the figure of the population, in (0, 1).
        independent: how many pairs certainly have nobody in common. Few make the interval wider, as
            Student's t is, and the rule of 3 needs the number; None for neither.
        kind: what the figure is: ``"rate"`` of errors, ``"optimum"`` over thresholds, or neither.

    Returns:
        An :class:`Interval`; its ends are NaN where there is none: the figure is not a number, or
        no replicate differs from it and the rule of 3 does not apply.

    Raises:
        ValueError: ``confidence`` is outside (0, 1).

    Example:
        >>> interval_of(np.array([0.5, 0.25, 0.5, 0.75]), confidence=0.5).low < 0.5
        True
        >>> nothing_wrong = interval_of(np.zeros(1001), independent=100, kind="rate")
        >>> nothing_wrong.low, round(nothing_wrong.high, 3)
        (0.0, 0.03)

    Source: Efron, Tibshirani, *An introduction to the bootstrap*, 1993, section 14.3; Hyndman, Fan,
    *Sample quantiles in statistical packages*, The American Statistician 1996, definition 6;
    Mansfield, Wayman, *Best practices in testing and reporting performance of biometric devices*,
    2002, for the rule of 3.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    base, drawn = figures[0], figures[1:]
    value = float(base) if value is None else value
    drawn = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or not len(drawn) or (drawn == base).all():
        if kind == "rate" and independent and value in (0.0, 1.0):
            unseen = 1 - (1 - confidence) ** (1 / independent)
            return Interval(0.0, unseen) if value == 0 else Interval(1 - unseen, 1.0)
        return Interval(math.nan, math.nan)
    if kind == "optimum":
        unseen = base - drawn.mean()
        drawn, base = drawn - drawn.mean() + value + unseen, value + unseen
    below = ((drawn < base).mean() + (drawn <= base).mean()) / 2
    bias = _normal_quantile(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    centred = drawn - drawn.mean()
    acceleration = (centred**3).mean() / (centred**2).mean() ** 1.5 / 6
    tail = _normal_quantile(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    if independent is not None and independent > 1:  # Student's t, to the first order
        tail += (tail**3 + tail) / (4 * (independent - 1))
    # At most a tenth: a few errors can make it so large that the denominator vanishes.
    acceleration = min(max(acceleration, -0.1), 0.1)
    moved = bias + tail
    shares = torch.special.ndtr(torch.from_numpy(bias + moved / (1 - acceleration * moved)))
    # The k-th of R replicates has k / (R + 1) of all below it on average: the least has some too.
    low, high = np.quantile(drawn, shares.numpy(), method="weibull")
    return Interval(float(low), float(high))


def _normal_quantile(share: Any) -> NDArray[np.float64]:
    quantile: NDArray[np.float64] = torch.special.ndtri(torch.as_tensor(share)).numpy()
    return quantile


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    values: tuple[float, float] | None = None,
    *,
    confidence: float = 0.95,
    independent: int | None = None,
) -> Difference:
    """Compare a figure of two systems, measured on the same pairs with the same replicates.

    Args:
        first: [1 + R], the figure of one system, from :class:`Replicates` with one seed for both.
        second: [1 + R], that of the other.
        values: the exact figures of both; by default the first rows.
        confidence: of the interval, in (0, 1).
        independent: see :func:`interval_of`.

    Returns:
        A :class:`Difference`. An interval without 0 says that one of the two is better, with this
        confidence.

    Raises:
        ValueError: there are not as many replicates of both; or as :func:`interval_of`.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> first = np.append(0.2, generator.normal(0.2, 0.02, 1000))
        >>> found = paired_difference(first, first - 0.01 + 0.001 * generator.normal(size=1001))
        >>> found.interval.low > 0, found.above
        (True, 1.0)

    Source: Bisani, Ney, *Bootstrap estimates for confidence intervals in ASR performance
    evaluation*, ICASSP 2004, section 4.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have as many replicates, got {len(first)} and {len(second)}"
        )
    gap = first - second
    value = float(gap[0]) if values is None else values[0] - values[1]
    above = ((gap[1:] > 0).mean() + (gap[1:] >= 0).mean()) / 2
    interval = interval_of(gap, value, confidence=confidence, independent=independent)
    return Difference(value, interval, float(above))
