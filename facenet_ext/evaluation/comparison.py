"""Two evaluations of the same pairs compared: which is better, and how sure that is."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.files import without_nan
from facenet_ext.evaluation.scored_pairs import ScoredPairs
from facenet_ext.metrics import Difference, Interval, Replicates, Summary
from facenet_ext.metrics.folds import replicate_choices
from facenet_ext.metrics.paired import PairedReplicates, resample_sources
from facenet_ext.metrics.sources import PairSource, TensorPairs
from facenet_ext.metrics.summary import summarize_source

__all__ = ["ComparedFigure", "Comparison", "compare"]

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false match rates at which FNMR is compared, where the pairs reach them."""

_DECISIVE = (1e-3, 1e-2, 1e-1)

_LARGER_IS_BETTER = ("accuracy", "auc")
_SHARES = ("accuracy", "eer", "fnmr")


class ComparedFigure(NamedTuple):
    """A figure of two evaluations, A and B.

    Attributes:
        key: its name for programs.
        name: what it is.
        a: that of A.
        b: that of B.
        difference: b - a, its interval, and the share of resamples in which b is the larger one;
            the last two are NaN where identities are not known.
        remark: what to know before it is used, in a few words; "" if nothing.
    """

    key: str
    name: str
    a: float
    b: float
    difference: Difference
    remark: str = ""

    @property
    def is_share(self) -> bool:
        """Whether it is told in percent, and its difference in points."""
        return self.key.startswith(_SHARES)

    @property
    def larger_is_better(self) -> bool:
        """Whether the better of the two has the larger one."""
        return self.key in _LARGER_IS_BETTER

    @property
    def b_better(self) -> float:
        """The share of resamples in which B is better, ties by half."""
        above = self.difference.above
        return above if self.larger_is_better else 1 - above

    def shown(self, value: float) -> str:
        """Return a value of this figure as it is shown."""
        return f"{value:.2%}" if self.is_share else f"{value:.4f}"

    @property
    def shown_difference(self) -> str:
        """The difference with its interval as it is shown."""
        value, (low, high), _ = self.difference
        scale, form = (100, "+.2f") if self.is_share else (1, "+.4f")
        told = f"{scale * value:{form}}" if value else "0"
        return (
            told if math.isnan(low) else f"{told} ({scale * low:{form}} to {scale * high:{form}})"
        )

    @property
    def better(self) -> Literal["A", "B"] | None:
        """Which of the two is better, where the interval tells it."""
        low, high = self.difference.interval
        if not (low > 0 or high < 0):  # NaN is neither
            return None
        return "B" if (low > 0) == self.larger_is_better else "A"


class Comparison(NamedTuple):
    """How two evaluations differ.

    Attributes:
        figures: that both have.
        decisive: the figure that the verdict is by.
        same: number of pairs of one identity.
        different: number of pairs of two.
        identities: how many; None where they are not known.
        replicates: of either, with the same identities; None where these are not known.
    """

    figures: list[ComparedFigure]
    decisive: ComparedFigure
    same: int
    different: int
    identities: int | None
    replicates: tuple[Replicates, Replicates] | None

    @property
    def verdict(self) -> str:
        """What the decisive figure says, in a sentence."""
        figure = self.decisive
        value, (low, high), _ = figure.difference
        if figure.better is not None:
            word = "higher" if figure.larger_is_better else "lower"
            least, most = (_number(figure, end) for end in sorted((abs(low), abs(high))))
            sure = figure.b_better if figure.better == "B" else 1 - figure.b_better
            return (
                f"{figure.better} is better: its {figure.name} is {_by(figure, value)} {word} "
                f"({least} to {most}), and is {word} in {sure:.1%} of resamples."
            )
        told = f"Cannot tell which is better: {figure.name} "
        if value:
            word = "higher" if value > 0 else "lower"
            told += f"of B is {_by(figure, value)} {word}"
        else:
            told += "is the same"
        if self.identities is None:
            return f"{told}, and the protocol does not say whose the pairs are, to resample them."
        if math.isnan(low):
            return f"{told}, and in every resample too."
        return (
            f"{told}, and with other people it might be {_number(figure, -low)} lower or "
            f"{_number(figure, high)} higher."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them: None where there is no number."""
        figures = {
            figure.key: {
                "name": figure.name,
                "a": figure.a,
                "b": figure.b,
                "difference": figure.difference.value,
                "interval": list(figure.difference.interval),
                "b_better": figure.b_better,
                "better": figure.better,
                "remark": figure.remark,
            }
            for figure in self.figures
        }
        told = {
            "verdict": self.verdict,
            "better": self.decisive.better,
            "decisive": self.decisive.key,
            "pairs": {"same": self.same, "different": self.different},
            "identities": self.identities,
            "confidence": 0.95,
            "figures": figures,
        }
        return dict(without_nan(told))


def compare(
    a: ScoredPairs,
    b: ScoredPairs,
    fmr: float | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations of the same pairs, with the same identities drawn for both.

    The verdict is by one figure, so that nobody picks the one that suits: by FNMR at the strictest
    of the rates 1e-3, 1e-2 and 1e-1 at which both have 30 errors of each kind, else by EER.

    Accuracy is resampled with the thresholds of each fold chosen anew, as other people would choose
    them: see :func:`facenet_ext.metrics.folds.replicate_choices`.

    Args:
        a: one evaluation.
        b: the other.
        fmr: the verdict is by FNMR at this rate, in (0, 1].
        replicates: how many times the identities are drawn.
        seed: of the drawing.

    Returns:
        A :class:`Comparison`.

    Raises:
        InputError: the pairs are not the same, or do not reach ``fmr``.

    Source: see :class:`facenet_ext.metrics.paired.PairedReplicates`.
    """
    check_same(a, b)
    rates = sorted({*RATES, *([] if fmr is None else [fmr])}, reverse=True)
    drawing = _Drawing(replicates, seed)
    with refusing("the pairs: "):
        of_a, of_b = (_summarize(one, rates, drawing) for one in (a, b))
        drawn = _draw((b, b.pairs), (a, a.pairs), drawing)
        accuracy = _compare_accuracy(a, b, drawing)
    figures = {} if accuracy is None else {"accuracy": accuracy}
    for key, (name, rows) in _rows(rates).items():
        one, other = of_a.figures[key], of_b.figures[key]
        if math.isnan(one.value) or math.isnan(other.value):  # these pairs do not reach that rate
            continue
        difference = _difference(drawn, rows, one.value, other.value)
        remark = (one.remark or other.remark).partition(":")[0]
        figures[key] = ComparedFigure(key, name, one.value, other.value, difference, remark)
    both = of_a.replicates, of_b.replicates
    return Comparison(
        list(figures.values()),
        _decisive(figures, fmr),
        of_a.same,
        of_a.different,
        of_a.identities,
        None if both[0] is None or both[1] is None else (both[0], both[1]),
    )


def check_same(a: ScoredPairs, b: ScoredPairs) -> None:
    """Refuse two evaluations of different pairs."""
    runs, protocols = ([one.about[key] for one in (a, b)] for key in ("folder", "protocol"))
    how = "evaluate both with the same --data and --pairs"
    if protocols[0] != protocols[1]:
        raise InputError(
            f"{runs[0]} was evaluated by {protocols[0]}, {runs[1]} by {protocols[1]}; {how}"
        )
    if a.fingerprint != b.fingerprint:
        counts = [sum(len(block.same) for block in one.pairs.blocks()) for one in (a, b)]
        raise InputError(
            f"{runs[0]} and {runs[1]}: were evaluated by {protocols[0]}, but on other images or "
            f"pairs ({counts[0]:,} and {counts[1]:,}); {how}"
        )


class _Drawing(NamedTuple):
    replicates: int
    seed: int


_Rows = Callable[[Replicates], NDArray[np.float64]]


def _rows(rates: list[float]) -> dict[str, tuple[str, _Rows]]:
    """Return the name of each figure but accuracy, and what computes it of replicates."""
    found: dict[str, tuple[str, _Rows]] = {}
    for rate in rates:
        found[f"fnmr_at_fmr_{rate:g}"] = (
            f"FNMR at FMR {rate:g}",
            functools.partial(Replicates.fnmr_at_fmr, fmr=rate),
        )
    return found | {
        "eer": ("EER", Replicates.eer),
        "auc": ("AUC", Replicates.auc),
        "min_dcf": ("minDCF", Replicates.min_dcf),
        "min_cllr": ("min Cllr", Replicates.min_cllr),
    }


def _summarize(pairs: ScoredPairs, rates: list[float], drawing: _Drawing) -> Summary:
    return summarize_source(
        pairs.pairs,
        pairs.labels,
        known=pairs.known,
        fmr=rates,
        threshold=None,
        **drawing._asdict(),
    )


def _draw(
    one: tuple[ScoredPairs, PairSource],
    other: tuple[ScoredPairs, PairSource],
    drawing: _Drawing,
    at: tuple[float, ...] = (),
) -> PairedReplicates | None:
    """Draw the identities of pairs; None where they are not known."""
    if not (one[0].known and other[0].known):
        return None
    first, second = ((source, pairs.labels) for pairs, source in (one, other))
    return resample_sources(first, second, at=at, **drawing._asdict())


def _difference(
    drawn: PairedReplicates | None,
    rows: _Rows,
    a: float,
    b: float,
    besides: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Difference:
    if drawn is None:
        return Difference(b - a, Interval(math.nan, math.nan), math.nan)
    return drawn.difference(rows, (b, a), besides=besides)


def _compare_accuracy(a: ScoredPairs, b: ScoredPairs, drawing: _Drawing) -> ComparedFigure | None:
    """Compare accuracy, where there is one: at the thresholds of the folds, and by their choice.

    Pairs weigh the same in a replicate. Where folds differ in size, the mean over folds is another
    one, and the interval is around that.
    """
    if a.accepted is None or a.accuracy is None or b.accepted is None or b.accuracy is None:
        return None
    judged = a.accepted >= 0  # the same pairs of both
    of_a, of_b = (_judged(one, judged) for one in (a, b))
    share = 0.5 if a.balanced else of_a.same.double().mean().item()

    def accuracy(drawn: Replicates) -> NDArray[np.float64]:
        fmr, fnmr = drawn.at_threshold(0.5)
        rows: NDArray[np.float64] = 1 - share * fnmr - (1 - share) * fmr
        return rows

    drawn = _draw((b, of_b), (a, of_a), drawing, at=(0.5,))
    choices = None if drawn is None else (_choices(b, share, drawing), _choices(a, share, drawing))
    name = "balanced accuracy" if a.balanced else "accuracy"
    difference = _difference(drawn, accuracy, a.accuracy, b.accuracy, choices)
    return ComparedFigure("accuracy", name, a.accuracy, b.accuracy, difference)


def _judged(one: ScoredPairs, judged: Tensor) -> TensorPairs:
    """Return the pairs that accuracy judges, at distance 0 where it accepts them, else at 1."""
    pairs, accepted = one.pairs, one.accepted
    assert accepted is not None
    assert isinstance(pairs, TensorPairs)  # as all pairs that have an accuracy
    return dataclasses.replace(pairs[judged], distances=1 - accepted[judged].float())


def _choices(one: ScoredPairs, share: float, drawing: _Drawing) -> NDArray[np.float64]:
    assert one.folds is not None
    assert isinstance(one.pairs, TensorPairs)
    return replicate_choices(one.pairs, one.labels, one.folds, share, **drawing._asdict())


def _decisive(figures: dict[str, ComparedFigure], fmr: float | None) -> ComparedFigure:
    """Return the figure that tells which is better, whatever it tells."""
    if fmr is not None:
        found = figures.get(f"fnmr_at_fmr_{fmr:g}")
        if found is None:
            raise InputError(
                f"`fmr` {fmr:g}: not reachable with this many pairs; give a larger one"
            )
        return found
    wanted = [figures.get(f"fnmr_at_fmr_{rate:g}") for rate in _DECISIVE]
    return next((one for one in wanted if one is not None and not one.remark), figures["eer"])


def _by(figure: ComparedFigure, value: float) -> str:
    return _number(figure, abs(value)) + (" points" if figure.is_share else "")


def _number(figure: ComparedFigure, value: float) -> str:
    return f"{100 * value:.2f}" if figure.is_share else f"{value:.4f}"
