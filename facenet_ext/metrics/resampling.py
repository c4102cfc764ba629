"""How sure a figure is: intervals by drawing identities anew."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics import _curves
from facenet_ext.metrics._clusters import (
    Whose,
    count_by_identity,
    draw_signs,
    draw_weights,
    replicate_rates,
)
from facenet_ext.metrics._comparisons import check_share
from facenet_ext.metrics.costs import bayes_threshold, check_costs
from facenet_ext.metrics.sources import PairBlock, PairSource, TensorPairs
from facenet_ext.metrics.thresholds import some_thresholds

__all__ = [
    "Difference",
    "Interval",
    "Replicates",
    "interval_of",
    "paired_difference",
    "resample_identities",
]

THRESHOLDS = 256
"""About how many a curve of replicates has."""

_OPTIMISM = 1 / (2 ** (2 / 3) - 1)
"""How many times too good the best of many thresholds is, for each time that replicates show."""


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


@dataclasses.dataclass(frozen=True)
class Replicates:
    """FMR and FNMR of some pairs, and of replicates of them with the identities drawn anew.

    Its methods return a figure of each row: ``[0]`` is of the pairs themselves, the others are of
    the replicates. They are taken from the curve at ``thresholds``, and interpolated between them;
    the figures' own functions are exact. :func:`interval_of` makes an interval of the rows.

    Attributes:
        thresholds: [T] float64, ascending; the first is -inf and accepts nothing, the last is inf
            and accepts all.
        fmr: [1 + R, T] float64, ascending along a row, from 0 to 1.
        fnmr: [1 + R, T] float64, descending along a row, from 1 to 0.
        identities: how many there are.
        independent: how many same and how many different pairs certainly have nobody in common.
        costs: [2, T - 1] float64, the mean of log2(1 + exp(-s)) of same pairs from each threshold
            to the next, and of log2(1 + exp(s)) of different ones, where distances are
            log-likelihood ratios -s; else None.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    identities: int
    independent: tuple[int, int]
    costs: NDArray[np.float64] | None = None

    def at_threshold(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return FMR and FNMR at a threshold that was given as one of ``at``."""
        place = int(np.searchsorted(self.thresholds, threshold))
        if place == len(self.thresholds) or self.thresholds[place] != threshold:
            raise ValueError(f"threshold must be one that was given in `at`, got {threshold}")
        return self.fmr[:, place], self.fnmr[:, place]

    def fnmr_at_fmr(self, fmr: float) -> NDArray[np.float64]:
        """Return FNMR at a wanted FMR, each row at its own threshold; see :func:`.fnmr_at_fmr`."""
        check_share("fmr", fmr)
        return _curves.fnmr_at(self.fmr, self.fnmr, fmr)

    def eer(self) -> NDArray[np.float64]:
        """Return the equal error rate by interpolation; see :func:`.eer`."""
        return _curves.eer(self.fmr, self.fnmr)

    def eer_convex_hull(self) -> NDArray[np.float64]:
        """Return the equal error rate of the convex hull; see :func:`.eer_convex_hull`."""
        return _curves.eer_convex_hull(self.fmr, self.fnmr)

    def auc(self) -> NDArray[np.float64]:
        """Return the area under the ROC; see :func:`.auc`."""
        return _curves.auc(self.fmr, self.fnmr)

    def min_dcf(
        self, p_target: float = 0.01, *, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> NDArray[np.float64]:
        """Return the minimum detection cost; see :func:`.min_dcf`."""
        check_costs(p_target, c_miss, c_fa)
        miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
        costs: NDArray[np.float64] = (miss * self.fnmr + alarm * self.fmr).min(1) / min(miss, alarm)
        return costs

    def min_cllr(self) -> NDArray[np.float64]:
        """Return Cllr after the best calibration; see :func:`.min_cllr`."""
        return _curves.min_cllr(self.fmr, self.fnmr)

    def actual_dcf(
        self, p_target: float = 0.01, *, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> NDArray[np.float64]:
        """Return the actual detection cost, where minus Bayes' threshold was given in ``at``."""
        check_costs(p_target, c_miss, c_fa)
        fmr, fnmr = self.at_threshold(-bayes_threshold(p_target, c_miss, c_fa))
        miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
        costs: NDArray[np.float64] = (miss * fnmr + alarm * fmr) / min(miss, alarm)
        return costs

    def cllr(self) -> NDArray[np.float64]:
        """Return the cost of log-likelihood ratios, where distances are such; see :func:`.cllr`."""
        if self.costs is None:
            raise ValueError("cllr needs replicates of `log_likelihood_ratios`")
        of_same, of_different = self.costs
        costs: NDArray[np.float64] = np.diff(self.fmr) @ of_different - np.diff(self.fnmr) @ of_same
        return costs / 2

    def band(
        self, fmr: NDArray[Any] | list[float], confidence: float = 0.95
    ) -> NDArray[np.float64]:
        """Return the interval of FNMR at each of several FMR: a band around the DET curve.

        Returns:
            [2, len(fmr)], the lower and the upper ends.
        """
        ends = [
            interval_of(
                self.fnmr_at_fmr(rate),
                confidence=confidence,
                independent=self.independent[0],
                kind="rate",
            )
            for rate in fmr
        ]
        clipped: NDArray[np.float64] = np.clip(np.array(ends).reshape(-1, 2).T, 0, 1)
        return clipped


def resample_identities(
    distances: Tensor,
    same: Tensor,
    first: Tensor,
    second: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    at: tuple[float, ...] = (),
    log_likelihood_ratios: bool = False,
    replicates: int = 1000,
    seed: int = 0,
) -> Replicates:
    """Draw the identities anew, many times, and compute FMR and FNMR of each replicate.

    Pairs that share an identity are not independent, so identities are drawn with replacement, as
    many as there are. The pairs are counted once, in chunks, for each identity and at some hundred
    thresholds, where the counts are exact. Replicates come of these counts.

    Two systems are compared on the same pairs with one ``seed``: replicate k of both then has the
    same identities. See :func:`paired_difference`.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.
        first: [N] integers, the identity of one side of each pair, from 0; with ``labels`` its
            place there.
        second: [N] integers, that of the other side; None where each comparison is of one identity,
            as a search in a fixed gallery.
        labels: [items] integers, the identity of each item.
        at: thresholds at which rates are wanted exactly, beside those that are chosen.
        log_likelihood_ratios: whether distances are log-likelihood ratios with the sign changed.
        replicates: how many, 2 or more.
        seed: of the drawing.

    Returns:
        A :class:`Replicates`.

    Raises:
        TypeError: ``distances`` is not floating point, ``same`` is not bool, or identities are not
            integers.
        ValueError: shapes do not fit, a distance is NaN, one of the two kinds of pair is missing,
            an identity is out of range, or there is only one.

    Example:
        >>> first, second = torch.triu_indices(60, 60, offset=1)
        >>> labels = torch.arange(60) // 3
        >>> same = labels[first] == labels[second]
        >>> distances = torch.linspace(0, 1, len(same)) + ~same
        >>> drawn = resample_identities(distances, same, first, second, labels=labels)
        >>> drawn.identities, drawn.eer().shape
        (20, (1001,))

    Source: Bolle, Ratha, Pankanti, *Error analysis of pattern recognition systems: the subsets
    bootstrap*, Computer Vision and Image Understanding 2004; Fogliato, Patil, Perona, *Confidence
    intervals for error rates in 1:1 matching tasks*, International Journal of Computer Vision 2024.
    """
    items = None if labels is None else len(labels)
    pairs = TensorPairs.of(distances, same, first, second, items=items)
    return resample(
        pairs,
        labels,
        thresholds=np.append(some_thresholds(pairs.sorted(), THRESHOLDS), at),
        log_likelihood_ratios=log_likelihood_ratios,
        replicates=replicates,
        seed=seed,
    )


def resample(
    pairs: PairSource,
    labels: Tensor | None,
    *,
    thresholds: NDArray[Any],
    log_likelihood_ratios: bool,
    replicates: int,
    seed: int,
    of: Literal["all", "identities", "pairs"] = "all",
) -> Replicates:
    """Do what :func:`resample_identities` does, at given thresholds, for pairs of any source."""
    if replicates < 2:
        raise ValueError(f"replicates must be 2 or more, got {replicates}")
    whose = Whose.of(pairs.used, labels)
    if whose.identities < 2:
        raise ValueError("first and second must have two identities or more, got 1")
    edges = np.unique(thresholds.astype(np.float64))
    width = len(edges) + 1
    costs = np.zeros((2, width))

    def columns(block: PairBlock) -> NDArray[np.int64]:
        column = np.searchsorted(edges, block.distances) + np.where(block.same, 0, width)
        if log_likelihood_ratios:
            signed = np.where(block.same, block.distances, -block.distances)
            softplus = torch.nn.functional.softplus(torch.from_numpy(signed).double(), threshold=40)
            cost = softplus.numpy() / math.log(2)
            costs[:] += np.bincount(column, cost, 2 * width).reshape(2, width)
        return column

    counts = count_by_identity(pairs.blocks(), whose, columns, 2 * width)
    kinds = slice(0, width), slice(width, 2 * width)
    if of == "pairs":
        weights = draw_signs(replicates, seed)
    else:
        weights = draw_weights(len(counts.by_identity), replicates, seed)
    matches, false_matches = (replicate_rates(counts, kind, weights, of) for kind in kinds)
    per_bin = counts.totals.reshape(2, width)
    return Replicates(
        np.concatenate([[-np.inf], edges, [np.inf]]),
        fmr=np.pad(false_matches, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))),
        fnmr=1 - np.pad(matches, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))),
        identities=counts.identities,
        independent=(counts.independent(kinds[0]), counts.independent(kinds[1])),
        costs=costs / np.maximum(per_bin, 1) if log_likelihood_ratios else None,
    )


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

    An optimum, the best of many thresholds, is too good on the pairs at hand, and once more so
    in a replicate of them. How much follows a power of 2/3 of the variance, which a replicate has
    twice. So the first is 1 / (2^(2/3) - 1) = 1.7 times the second, and is taken back.

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

    Source: Efron, Tibshirani, *An introduction to the bootstrap*, 1993, section 14.3; Kim,
    Pollard, *Cube root asymptotics*, Annals of Statistics 1990, for the power; Mansfield, Wayman,
    *Best practices in testing and reporting performance of biometric devices*, 2002, for the rule
    of 3.
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
    low, high = np.quantile(drawn, shares.numpy())
    if kind == "optimum":
        unseen = (drawn.mean() - base) * (_OPTIMISM - 1)
        low, high = low - unseen, high - unseen
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
