"""Error rates as ISO/IEC 19795-1 names them: FMR and FNMR, and the DET curve of both.

A *false match* is a pair of two identities that is accepted, a *false non-match* a pair of one
identity that is rejected:

    FMR(t)  = accepted different pairs / different pairs  (FaceNet's FAR)
    FNMR(t) = rejected same pairs / same pairs            (1 - VAL)
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons, allowed, check_share

__all__ = [
    "DetCurve",
    "ErrorRates",
    "curve_of",
    "det_curve",
    "error_rates",
    "fnmr_at_fmr",
    "rates_at",
    "rates_at_fmr",
    "remark_on",
    "some_thresholds",
]

_FEWEST_ERRORS = 30


@dataclasses.dataclass(frozen=True)
class ErrorRates:
    """What a threshold accepts and rejects wrongly.

    Attributes:
        threshold: pairs with a distance up to it are accepted.
        fmr: false match rate.
        fnmr: false non-match rate.
        false_matches: number of different pairs that are accepted.
        false_non_matches: number of same pairs that are rejected.
        wanted_fmr: the rate that the threshold was chosen for; None where it was given.
        reachable: whether these pairs can measure the wanted rate: there are at least
            ``1 / wanted_fmr`` different pairs, and some threshold accepts no larger share. Where
            it is False, the rates and the threshold are NaN: nothing is extrapolated.
    """

    threshold: float
    fmr: float
    fnmr: float
    false_matches: int
    false_non_matches: int
    wanted_fmr: float | None = None
    reachable: bool = True

    @property
    def remark(self) -> str:
        """What to know before these rates are used, in a few words; "" if nothing.

        With fewer than 30 errors one cannot say with 90 % confidence that the true rate is within
        30 % of the measured one, even if the pairs are independent (the rule of 30).

        Source: Doddington et al., *The NIST speaker recognition evaluation: overview, methodology,
        systems, results, perspective*, Speech Communication 2000, section 4.3.
        """
        return remark_on(self.false_matches, self.false_non_matches, self.reachable)


def remark_on(false_matches: int, false_non_matches: int, reachable: bool = True) -> str:
    """Return a remark on a rate that so many errors were counted for."""
    if not reachable:
        return "not reachable with this many"
    counts = ((false_matches, "false matches"), (false_non_matches, "false non-matches"))
    few = [f"{number} {name}" for number, name in counts if number < _FEWEST_ERRORS]
    return f"fewer than {_FEWEST_ERRORS} errors: {', '.join(few)}" if few else ""


@dataclasses.dataclass(frozen=True)
class DetCurve:
    """The detection error trade-off: FNMR over FMR, one point per threshold.

    Attributes:
        thresholds: [T] float64, ascending; the first is -inf, which rejects all finite distances.
        fmr: [T] float64, ascending.
        fnmr: [T] float64, descending.
    """

    thresholds: Tensor
    fmr: Tensor
    fnmr: Tensor

    @property
    def normal_deviates(self) -> tuple[Tensor, Tensor]:
        """FMR and FNMR on the axes of a DET plot, where normal distances make a straight line.

        The deviate of a rate p is the number that a standard normal variable is below with
        probability p. It is -inf for 0 and inf for 1.
        """
        return torch.special.ndtri(self.fmr), torch.special.ndtri(self.fnmr)


def error_rates(distances: Tensor, same: Tensor, threshold: float) -> ErrorRates:
    """Compute FMR and FNMR at a threshold.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. A pair
            that could not be compared is at infinity, and is never accepted.
        same: [N] bool, whether the pair is of one identity.
        threshold: pairs up to it are accepted; not NaN.

    Returns:
        An :class:`ErrorRates`.

    Raises:
        TypeError: ``distances`` is not floating point or ``same`` is not bool.
        ValueError: they are not 1-D of one length, a distance is NaN, or one of the two kinds of
            pair is missing; or the threshold is NaN.

    Example:
        >>> same = torch.tensor([True, True, False, False])
        >>> rates = error_rates(torch.tensor([0.1, 0.4, 0.3, 0.9]), same, threshold=0.35)
        >>> rates.fmr, rates.fnmr, rates.remark
        (0.5, 0.5, 'fewer than 30 errors: 1 false matches, 1 false non-matches')

    Source: ISO/IEC 19795-1:2021, sections 3 and 9.
    """
    if math.isnan(threshold):
        raise ValueError("threshold must be a number, got nan")
    return rates_at(Comparisons.of(distances, same), threshold)


def fnmr_at_fmr(distances: Tensor, same: Tensor, fmr: float = 1e-3) -> ErrorRates:
    """Find FNMR at a wanted FMR: the share of same pairs that a strict enough threshold rejects.

    The threshold is ``max { t : FMR(t) <= fmr }`` over the observed distances, as
    :func:`.val_far` has it.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. A pair
            that could not be compared is at infinity, and is never accepted.
        same: [N] bool, whether the pair is of one identity.
        fmr: the wanted false match rate, in (0, 1].

    Returns:
        An :class:`ErrorRates`. If there are fewer than ``1 / fmr`` different pairs, it is not
        reachable and its rates are NaN.

    Raises:
        TypeError, ValueError: as :func:`error_rates`, or ``fmr`` is outside (0, 1].

    Example:
        >>> distances = torch.tensor([0.1, 0.5, 0.2, 0.8])
        >>> same = torch.tensor([True, True, False, False])
        >>> rates = fnmr_at_fmr(distances, same, fmr=0.5)
        >>> rates.fnmr, rates.fmr, round(rates.threshold, 4)
        (0.0, 0.5, 0.5)
        >>> fnmr_at_fmr(distances, same, fmr=1e-3).remark
        'not reachable with this many'

    Source: ISO/IEC 19795-1:2021, section 9; Grother et al., *Face Recognition Technology
    Evaluation, 1:1 verification*, NIST.
    """
    check_share("fmr", fmr)
    return rates_at_fmr(Comparisons.of(distances, same), fmr)


def det_curve(distances: Tensor, same: Tensor, points: int | None = None) -> DetCurve:
    """Compute FMR and FNMR at the observed distances.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. A pair
            that could not be compared is at infinity, and is never accepted.
        same: [N] bool, whether the pair is of one identity.
        points: about the most points of the curve, close together where one of the rates is small;
            None for one at each finite distance that occurs.

    Returns:
        A :class:`DetCurve`, exact at each of its points.

    Raises:
        TypeError, ValueError: as :func:`error_rates`; or ``points`` is less than 2.

    Example:
        >>> same = torch.tensor([True, True, False, False])
        >>> curve = det_curve(torch.tensor([0.1, 0.4, 0.3, 0.9]), same)
        >>> curve.fmr.tolist(), curve.fnmr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0, 0.0])

    Source: Martin et al., *The DET curve in assessment of detection task performance*,
    Eurospeech 1997.
    """
    if points is not None and points < 2:
        raise ValueError(f"points must be 2 or more, got {points}")
    return curve_of(Comparisons.of(distances, same), points)


def curve_of(pairs: Comparisons, points: int | None) -> DetCurve:
    """Return the DET curve of some pairs."""
    thresholds = some_thresholds(pairs, points)
    matches, false_matches = pairs.accepted(thresholds)
    return DetCurve(
        torch.from_numpy(np.append(-np.inf, thresholds)),
        fmr=torch.from_numpy(np.append(0, false_matches) / len(pairs.different)),
        fnmr=torch.from_numpy((len(pairs.same) - np.append(0, matches)) / len(pairs.same)),
    )


def rates_at(pairs: Comparisons, threshold: float) -> ErrorRates:
    """Return the error rates at a threshold; an infinite distance is never accepted."""
    finite = float(np.finfo(pairs.same.dtype).max)
    matches, false_matches = map(int, pairs.accepted(min(threshold, finite)))
    return ErrorRates(
        threshold,
        fmr=false_matches / len(pairs.different),
        fnmr=(len(pairs.same) - matches) / len(pairs.same),
        false_matches=false_matches,
        false_non_matches=len(pairs.same) - matches,
    )


def rates_at_fmr(pairs: Comparisons, fmr: float) -> ErrorRates:
    """Return the error rates at a wanted FMR."""
    most = allowed(fmr, len(pairs.different))
    threshold = pairs.strictest(most) if most else None
    if threshold is None:
        nan = math.nan
        return ErrorRates(nan, nan, nan, 0, 0, wanted_fmr=fmr, reachable=False)
    return dataclasses.replace(rates_at(pairs, threshold), wanted_fmr=fmr)


def some_thresholds(pairs: Comparisons, count: int | None) -> NDArray[Any]:
    """Return finite distances that occur, ascending: all of them, or about so many.

    A quarter each is even in the rank of same and of different pairs, and even in the logarithm of
    the number of false non-matches and of false matches.
    """
    parts = []
    for part, descending in ((pairs.same, True), (pairs.different, False)):
        total = len(part)
        if count is None or total <= count // 2:
            parts.append(part[:])
            continue
        even = np.linspace(0, total - 1, max(1, count // 4))
        ranks = np.geomspace(1, total, max(1, count // 4)) - 1
        if descending:
            ranks = total - 1 - ranks
        parts.append(part[np.unique(np.concatenate([even, ranks]).round().astype(np.int64))])
    thresholds = np.unique(np.concatenate(parts))
    finite: NDArray[Any] = thresholds[np.isfinite(thresholds)]
    return finite
