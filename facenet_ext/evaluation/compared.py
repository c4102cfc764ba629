"""Pairs with their distances, whatever they are of: every figure comes of these."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.files import without_nan
from facenet_ext.common.text import counted
from facenet_ext.metrics import (
    DetCurve,
    Figure,
    Summary,
    det_curve,
    eer,
    error_rates,
    interval_of,
    summarize,
)

if TYPE_CHECKING:
    from facenet_ext.evaluation.trial_scores import TrialScores

__all__ = ["RATES", "Compared", "Thresholds", "as_dict", "between", "percent"]

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false match rates at which FNMR is told."""

_POINTS = 256
"""About the most thresholds to choose from."""


class Thresholds(NamedTuple):
    """Thresholds to choose from, and what each of them does.

    Attributes:
        values: [T] float64, of the distance, ascending.
        fmr: [T] float64, the false match rate of each.
        fnmr: [T] float64, the false non-match rate.
        fmr_intervals: [T, 2] float64; NaN where there are none.
        fnmr_intervals: [T, 2] float64.
    """

    values: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    fmr_intervals: NDArray[np.float64]
    fnmr_intervals: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Pairs of images, of videos or of templates, with their distances.

    Attributes:
        distances: [N] floating point; smaller means more alike.
        same: [N] bool, whether a pair is of one identity.
        threshold: of the distance, at which the pairs are judged; not finite where there is none.
        first: [N] integers, one item of each pair.
        second: [N] integers, the other item.
        labels: [items] int64, the identity of each item; None where that is not known: then there
            are no intervals.
    """

    distances: Tensor
    same: Tensor
    threshold: float
    first: Tensor
    second: Tensor
    labels: Tensor | None

    @classmethod
    def of_trials(cls, scored: TrialScores, labels: NDArray[np.int64]) -> Compared:
        """Return scored trials; they are judged where the two error rates are equal.

        Args:
            scored: trials of both kinds.
            labels: [K], the identity of each template.
        """
        numbers = (scored.distances, scored.same, scored.first, scored.second)
        distances, same, first, second = map(torch.from_numpy, numbers)
        threshold = eer(distances, same).threshold
        known = torch.from_numpy(labels) if len(np.unique(labels)) > 1 else None
        return cls(distances, same, threshold, first, second, known)

    @functools.cached_property
    def summary(self) -> Summary:
        """The figures of the field, with intervals over people where it is known who they are."""
        known = self.labels is not None
        return summarize(
            self.distances,
            self.same,
            self.first if known else None,
            self.second if known else None,
            labels=self.labels,
            fmr=RATES,
            threshold=self.threshold if math.isfinite(self.threshold) else None,
        )

    @functools.cached_property
    def curve(self) -> DetCurve:
        """The DET curve, at most about 512 points, close together where a rate is small."""
        return det_curve(self.distances, self.same, points=512)

    @functools.cached_property
    def thresholds(self) -> Thresholds:
        """Thresholds to choose from, with that of the pairs among them."""
        drawn = self.summary.replicates
        if drawn is None:
            curve = det_curve(self.distances, self.same, points=_POINTS)
            values, fmr, fnmr = (
                one[1:].numpy() for one in (curve.thresholds, curve.fmr, curve.fnmr)
            )
            if math.isfinite(self.threshold) and self.threshold not in values:
                own = error_rates(self.distances, self.same, self.threshold)
                at = int(np.searchsorted(values, self.threshold))
                values, fmr, fnmr = (
                    np.insert(column, at, value)
                    for column, value in (
                        (values, self.threshold),
                        (fmr, own.fmr),
                        (fnmr, own.fnmr),
                    )
                )
            none = np.full((len(values), 2), math.nan)
            return Thresholds(values, fmr, fnmr, none, none)
        inside = slice(1, -1)  # the first accepts nothing, the last all
        rates, intervals = [], []
        for rows, independent in zip(
            (drawn.fmr, drawn.fnmr), reversed(drawn.independent), strict=True
        ):
            rates.append(rows[0, inside])
            ends_of_each = [
                interval_of(column, independent=independent, kind="rate")
                for column in rows[:, inside].T
            ]
            intervals.append(np.clip(np.array(ends_of_each), 0, 1))
        return Thresholds(drawn.thresholds[inside], *rates, *intervals)

    @property
    def in_short(self) -> str:
        """What the intervals and the strict thresholds say, in sentences for everybody."""
        figures, numbers = self.summary.figures, self.summary
        told = []
        if "fmr" in figures and math.isfinite(figures["fmr"].interval.low):
            told.append(
                f"Measured on {counted(numbers.identities or 0, 'person')}. Of other people like "
                f"these, {between(figures['fmr'])} of pairs of two people are taken for one person "
                f"(FMR), and {between(figures['fnmr'])} of pairs of one person for two (FNMR), 95 "
                "times in 100."
            )
        strict = [rate for rate in RATES if math.isfinite(figures[f"fnmr_at_fmr_{rate:g}"].value)]
        if strict:
            rate = 1e-3 if 1e-3 in strict else strict[-1]
            figure = figures[f"fnmr_at_fmr_{rate:g}"]
            sure = f" ({between(figure)})" if math.isfinite(figure.interval.low) else ""
            told.append(
                f"If no more than one in {round(1 / rate):,} pairs of two people may be taken for "
                f"one person, {percent(figure.value)} of pairs of one person are missed{sure}."
            )
        if len(strict) < len(RATES):
            least = RATES[len(strict)]
            told.append(
                f"One in {round(1 / least):,} is too rare to be measured with "
                f"{counted(numbers.different, 'pair')} of two people."
            )
        return " ".join(told)


def percent(rate: float) -> str:
    """Return a rate in percent, with three digits that count.

    Example:
        >>> percent(0.12345), percent(0.000012345), percent(0.0), percent(1.0)
        ('12.3%', '0.00123%', '0%', '100%')
    """
    if rate == 0:
        return "0%"
    digits = max(0, 2 - math.floor(math.log10(100 * rate) + 1e-9))
    return f"{100 * rate:.{digits}f}%"


def between(figure: Figure) -> str:
    """Return the interval of a rate in words.

    Example:
        >>> from facenet_ext.metrics import Interval
        >>> between(Figure("FMR", 0.02, Interval(0.012, 0.031)))
        'between 1.20% and 3.10%'
    """
    low, high = figure.interval
    return f"between {percent(low)} and {percent(high)}"


def as_dict(summary: Summary) -> dict[str, Any]:
    """Return figures with intervals as JSON has them: None where there is no number."""
    figures = {
        "confidence": summary.confidence,
        "identities": summary.identities,
        "figures": {
            key: dataclasses.asdict(figure) | {"interval": list(figure.interval)}
            for key, figure in summary.figures.items()
        },
    }
    return dict(without_nan(figures))
