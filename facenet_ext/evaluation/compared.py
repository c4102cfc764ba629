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
from facenet_ext.metrics import DetCurve, Figure, Summary, interval_of
from facenet_ext.metrics.sources import PairSource
from facenet_ext.metrics.summary import summarize_source
from facenet_ext.metrics.thresholds import curve_of, rates_at, some_thresholds

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
        pairs: of two kinds; their items are numbered.
        threshold: of the distance, at which the pairs are judged; not finite where there is none.
        labels: [items] int64, the identity of each item; None where that is not known: then there
            are no intervals.
    """

    pairs: PairSource
    threshold: float
    labels: Tensor | None

    @classmethod
    def of_trials(cls, scored: TrialScores, labels: NDArray[np.int64]) -> Compared:
        """Return scored trials; they are judged where the two error rates are equal.

        Args:
            scored: trials of both kinds.
            labels: [K], the identity of each template.
        """
        known = torch.from_numpy(labels) if len(np.unique(labels)) > 1 else None
        return cls(scored, scored.sorted().crossing()[0], known)

    @functools.cached_property
    def summary(self) -> Summary:
        """The figures of the field, with intervals over people where it is known who they are."""
        return summarize_source(
            self.pairs,
            self.labels,
            known=self.labels is not None,
            fmr=RATES,
            threshold=self.threshold if math.isfinite(self.threshold) else None,
        )

    @functools.cached_property
    def curve(self) -> DetCurve:
        """The DET curve, at most about 512 points, close together where a rate is small."""
        return curve_of(self.pairs.sorted(), points=512)

    @functools.cached_property
    def thresholds(self) -> Thresholds:
        """Thresholds to choose from, with that of the pairs among them."""
        drawn = self.summary.replicates
        if drawn is None:
            pairs = self.pairs.sorted()
            values = some_thresholds(pairs, _POINTS)
            if math.isfinite(self.threshold):
                values = np.union1d(values, self.threshold)
            each = [rates_at(pairs, float(value)) for value in values]
            fmr, fnmr = (np.array([getattr(one, of) for one in each]) for of in ("fmr", "fnmr"))
            none = np.full((len(values), 2), math.nan)
            return Thresholds(values.astype(np.float64), fmr, fnmr, none, none)
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
