"""Every figure of a set of pairs, each with its interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons, check_share
from facenet_ext.metrics._hull import hull_of
from facenet_ext.metrics.costs import (
    actual_cost,
    bayes_threshold,
    best_cost,
    check_costs,
    hull_cllr,
    ratio_cost,
)
from facenet_ext.metrics.intervals import Interval, interval_of
from facenet_ext.metrics.resampling import THRESHOLDS, Replicates, resample
from facenet_ext.metrics.sources import PairSource, TensorPairs
from facenet_ext.metrics.thresholds import rates_at, rates_at_fmr, remark_on, some_thresholds
from facenet_ext.metrics.verification import area

__all__ = ["Figure", "Summary", "summarize"]

_OPTIMA = ("eer_convex_hull", "min_dcf", "min_cllr")
_MEANS = ("auc", "cllr", "actual_dcf")
_NO_INTERVAL = Interval(math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure and how sure it is.

    Attributes:
        name: what it is, as ``FNMR at FMR 0.001``.
        value: NaN where these pairs cannot measure it.
        interval: NaN where there is none.
        remark: what to know before it is used, in a few words; "" if nothing: "not reachable with
            this many", or "fewer than 30 errors" and which.
        threshold: of the distance, at which the figure is measured; NaN where there is none.
        fmr: the false match rate that this threshold has on these pairs; NaN where there is none.
    """

    name: str
    value: float
    interval: Interval = _NO_INTERVAL
    remark: str = ""
    threshold: float = math.nan
    fmr: float = math.nan


@dataclasses.dataclass(frozen=True)
class Summary:
    """All figures of a set of pairs.

    Attributes:
        figures: by their key: ``fnmr_at_fmr_<rate>``, ``eer``, ``eer_convex_hull``, ``min_dcf``,
            ``min_cllr``, ``auc``; ``fmr`` and ``fnmr`` where a threshold was given; ``actual_dcf``
            and ``cllr`` of log-likelihood ratios.
        same: number of pairs of one identity.
        different: number of pairs of two.
        identities: number of identities; None where they are not known.
        confidence: of the intervals.
        replicates: which the intervals come of; None where identities are not known.
    """

    figures: dict[str, Figure]
    same: int
    different: int
    identities: int | None
    confidence: float
    replicates: Replicates | None


def summarize(
    distances: Tensor,
    same: Tensor,
    first: Tensor | None = None,
    second: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    fmr: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    threshold: float | None = None,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    log_likelihood_ratios: bool = False,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Summary:
    """Compute every figure of a set of pairs, with an interval by drawing identities anew.

    Figures are exact. They take one sort of the distances; the intervals take one pass over the
    pairs, in chunks.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. A pair
            that could not be compared is at infinity, and is never accepted.
        same: [N] bool, whether the pair is of one identity.
        first: whose one side of each pair is, see :func:`.resample_identities`; None where that is
            not known: then there are no intervals.
        second: whose the other side is, see there.
        labels: see there.
        fmr: false match rates at which FNMR is wanted, each in (0, 1].
        threshold: at which FMR and FNMR are wanted; None for no such figures.
        p_target: see :func:`.min_dcf`.
        c_miss: see there.
        c_fa: see there.
        log_likelihood_ratios: whether distances are log-likelihood ratios with the sign changed.
        confidence: of the intervals, in (0, 1).
        replicates: how many the intervals come of.
        seed: of the drawing.

    Returns:
        A :class:`Summary`.

    Raises:
        TypeError, ValueError: as :func:`.resample_identities`, :func:`.fnmr_at_fmr` and
            :func:`.min_dcf`.

    Example:
        >>> import torch
        >>> first, second = torch.triu_indices(60, 60, offset=1)
        >>> labels = torch.arange(60) // 3
        >>> same = labels[first] == labels[second]
        >>> distances = torch.linspace(0, 1, len(same)) + 0.5 * ~same
        >>> summary = summarize(distances, same, first, second, labels=labels)
        >>> rate = summary.figures["eer"]
        >>> rate.interval.low < rate.value < rate.interval.high
        True
        >>> summary.figures["fnmr_at_fmr_1e-05"].remark
        'not reachable with this many'

    Source: as the functions of the figures.
    """
    return summarize_source(
        TensorPairs.of(
            distances, same, first, second, items=None if labels is None else len(labels)
        ),
        labels,
        known=first is not None,
        fmr=fmr,
        threshold=threshold,
        p_target=p_target,
        c_miss=c_miss,
        c_fa=c_fa,
        log_likelihood_ratios=log_likelihood_ratios,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
    )


def summarize_source(
    source: PairSource,
    labels: Tensor | None,
    *,
    known: bool,
    fmr: Sequence[float],
    threshold: float | None,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    log_likelihood_ratios: bool = False,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Summary:
    """Do what :func:`summarize` does, for pairs of any source; ``known`` says whether to draw."""
    for rate in fmr:
        check_share("fmr", rate)
    check_costs(p_target, c_miss, c_fa)
    if threshold is not None and math.isnan(threshold):
        raise ValueError("threshold must be a number, got nan")
    costs = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
    at = [] if threshold is None else [threshold]
    if log_likelihood_ratios:
        at.append(-bayes_threshold(**costs))
    pairs = source.sorted()
    figures = dict(_figures(pairs, fmr, threshold, costs, log_likelihood_ratios))
    numbers = len(pairs.same), len(pairs.different)
    thresholds = np.append(some_thresholds(pairs, THRESHOLDS), at)
    del pairs  # half as large as the distances
    if not known:
        return Summary(figures, *numbers, None, confidence, None)
    drawn = resample(
        source,
        labels,
        thresholds=thresholds,
        log_likelihood_ratios=log_likelihood_ratios,
        replicates=replicates,
        seed=seed,
    )
    for key, figure in figures.items():
        rows, independent = _rows(drawn, key, fmr, threshold, costs)
        interval = interval_of(
            rows,
            figure.value,
            confidence=confidence,
            independent=independent,
            kind="optimum" if key in _OPTIMA else "mean" if key in _MEANS else "rate",
        )
        limit = math.inf if key in ("actual_dcf", "cllr") else 1.0
        low, high = (min(max(end, 0.0), limit) if end == end else end for end in interval)
        figures[key] = dataclasses.replace(figure, interval=Interval(low, high))
    return Summary(figures, *numbers, drawn.identities, confidence, drawn)


def _key(rate: float) -> str:
    return f"fnmr_at_fmr_{rate:g}"


def _figures(
    pairs: Comparisons,
    fmr: Sequence[float],
    threshold: float | None,
    costs: dict[str, float],
    log_likelihood_ratios: bool,
) -> Iterator[tuple[str, Figure]]:
    """Compute the figures, without their intervals."""
    for rate in fmr:
        rates = rates_at_fmr(pairs, rate)
        yield (
            _key(rate),
            Figure(
                f"FNMR at FMR {rate:g}",
                rates.fnmr,
                remark=rates.remark,
                threshold=rates.threshold,
                fmr=rates.fmr,
            ),
        )
    if threshold is not None:
        given = rates_at(pairs, threshold)
        for key, value, errors in (
            ("fmr", given.fmr, (given.false_matches, 30)),
            ("fnmr", given.fnmr, (30, given.false_non_matches)),
        ):
            name = f"{key.upper()} at threshold {threshold:.4g}"
            remark = remark_on(*errors)
            yield key, Figure(name, value, remark=remark, threshold=threshold, fmr=given.fmr)
    at, rate = pairs.crossing()
    here = rates_at(pairs, at)
    name = "EER, interpolated"
    yield "eer", Figure(name, rate, remark=here.remark, threshold=at, fmr=here.fmr)
    hull = hull_of(pairs)
    rate = hull.equal_error_rate()
    yield "eer_convex_hull", Figure("EER, ROC convex hull", rate, remark=here.remark)
    cost = best_cost(hull, **costs)
    name = f"minDCF, target {costs['p_target']:g}"
    remark = _remark(pairs, cost.threshold) if math.isfinite(cost.threshold) else ""
    yield (
        "min_dcf",
        Figure(name, cost.cost, remark=remark, threshold=cost.threshold, fmr=cost.fmr),
    )
    yield "min_cllr", Figure("min Cllr", hull_cllr(hull))
    yield "auc", Figure("AUC", area(pairs))
    if log_likelihood_ratios:
        name, actual = f"actDCF, target {costs['p_target']:g}", actual_cost(pairs, **costs)
        remark, at = _remark(pairs, -actual.threshold), -actual.threshold
        yield "actual_dcf", Figure(name, actual.cost, remark=remark, threshold=at, fmr=actual.fmr)
        yield "cllr", Figure("Cllr", ratio_cost(pairs))


def _remark(pairs: Comparisons, threshold: float) -> str:
    return rates_at(pairs, threshold).remark


def _rows(
    drawn: Replicates,
    key: str,
    fmr: Sequence[float],
    threshold: float | None,
    costs: dict[str, float],
) -> tuple[NDArray[np.float64], int | None]:
    """Return a figure of each replicate; of a rate, also how many pairs are independent."""
    same, different = drawn.independent
    for rate in fmr:
        if key == _key(rate):
            return drawn.fnmr_at_fmr(rate), same
    if key in ("fmr", "fnmr") and threshold is not None:
        rates = drawn.at_threshold(threshold)
        return (rates[0], different) if key == "fmr" else (rates[1], same)
    if key in ("min_dcf", "actual_dcf"):
        return getattr(drawn, key)(**costs), min(same, different)
    return getattr(drawn, key)(), min(same, different)
