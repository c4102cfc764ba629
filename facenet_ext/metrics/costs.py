"""Costs of decisions and of likelihood ratios, as speaker recognition reports them.

The detection cost of a threshold is what wrong decisions cost on average, where a share
``p_target`` of pairs is of one identity, divided by what the better of two systems costs that
accept everything or nothing:

    DCF(t) = (c_miss p_target FNMR(t) + c_fa (1 - p_target) FMR(t))
             / min(c_miss p_target, c_fa (1 - p_target))
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons
from facenet_ext.metrics._hull import Hull, hull_of

__all__ = [
    "DetectionCost",
    "actual_cost",
    "actual_dcf",
    "bayes_threshold",
    "best_cost",
    "check_costs",
    "cllr",
    "hull_cllr",
    "min_cllr",
    "min_dcf",
    "ratio_cost",
]

_CHUNK = 2**18


@dataclasses.dataclass(frozen=True)
class DetectionCost:
    """The normalised cost of a threshold.

    Attributes:
        cost: 0 where nothing is wrong; 1 is reached by accepting all pairs, or none.
        threshold: of the distance, for :func:`min_dcf`: pairs up to it are accepted. Of the
            log-likelihood ratio, for :func:`actual_dcf`: pairs from it on are accepted.
        fmr: false match rate at the threshold.
        fnmr: false non-match rate at the threshold.
    """

    cost: float
    threshold: float
    fmr: float
    fnmr: float


def min_dcf(
    distances: Tensor,
    same: Tensor,
    p_target: float = 0.01,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> DetectionCost:
    """Compute the minimum detection cost: that of the threshold that is best for these pairs.

    Accepting all pairs and accepting none are among the thresholds, so it is 1 at most.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. For
            scores, of which larger means more alike, give ``-scores``.
        same: [N] bool, whether the pair is of one identity.
        p_target: the share of pairs of one identity where the system is used, in (0, 1).
        c_miss: what a false non-match costs, positive.
        c_fa: what a false match (false alarm) costs, positive.

    Returns:
        A :class:`DetectionCost`. Its threshold is -inf where accepting no pair is best, inf where
        accepting all is.

    Raises:
        TypeError: ``distances`` is not floating point or ``same`` is not bool.
        ValueError: they are not 1-D of one length, a distance is NaN, or one of the two kinds of
            pair is missing; or ``p_target`` or a cost is out of range.

    Example:
        >>> import torch
        >>> scores = torch.tensor([3.0, 1.0, 2.0, -1.0])
        >>> same = torch.tensor([True, True, False, False])
        >>> min_dcf(-scores, same, p_target=0.01)
        DetectionCost(cost=0.5, threshold=-3.0, fmr=0.0, fnmr=0.5)

    Source: *NIST 2016 Speaker Recognition Evaluation Plan*, section 3.1; Kaldi's
    ``compute_min_dcf.py`` gives the same where no two scores are equal.
    """
    check_costs(p_target, c_miss, c_fa)
    return best_cost(hull_of(Comparisons.of(distances, same)), p_target, c_miss, c_fa)


def best_cost(hull: Hull, p_target: float, c_miss: float, c_fa: float) -> DetectionCost:
    """Return the minimum cost: each threshold that is best for a prior is a vertex of the hull."""
    fmr, fnmr = hull.fmr, hull.fnmr
    costs = _cost(fmr, fnmr, p_target, c_miss, c_fa)
    best = int(np.argmin(costs))
    at = (costs, hull.thresholds, fmr, fnmr)
    return DetectionCost(*(float(values[best]) for values in at))


def actual_dcf(
    log_likelihood_ratios: Tensor,
    same: Tensor,
    p_target: float = 0.01,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> DetectionCost:
    """Compute the actual detection cost: that of the threshold that the scores themselves promise.

    Log-likelihood ratios that are right are best judged by Bayes' threshold
    ``log(c_fa (1 - p_target) / (c_miss p_target))``. What the cost is above :func:`min_dcf` is lost
    by miscalibration. Distances are no likelihood ratios: calibrate them first.

    Args:
        log_likelihood_ratios: [N] floating point, natural logarithms; larger means more alike.
        same: see :func:`min_dcf`.
        p_target: see there.
        c_miss: see there.
        c_fa: see there.

    Returns:
        A :class:`DetectionCost`, which may be far above 1.

    Raises:
        TypeError, ValueError: as :func:`min_dcf`.

    Example:
        >>> import torch
        >>> ratios = torch.tensor([6.0, 1.0, 2.0, -3.0])
        >>> same = torch.tensor([True, True, False, False])
        >>> actual_dcf(ratios, same, p_target=0.01).cost
        0.5
        >>> round(actual_dcf(ratios + 5, same, p_target=0.01).cost, 4)  # off by a constant
        49.5

    Source: *NIST 2016 Speaker Recognition Evaluation Plan*, section 3.1.
    """
    check_costs(p_target, c_miss, c_fa)
    return actual_cost(_of_ratios(log_likelihood_ratios, same), p_target, c_miss, c_fa)


def actual_cost(pairs: Comparisons, p_target: float, c_miss: float, c_fa: float) -> DetectionCost:
    """Return the actual cost, where distances are log-likelihood ratios with the sign changed."""
    threshold = bayes_threshold(p_target, c_miss, c_fa)
    matches, false_matches = map(int, pairs.accepted(-threshold))
    fmr = false_matches / len(pairs.different)
    fnmr = (len(pairs.same) - matches) / len(pairs.same)
    return DetectionCost(_cost(fmr, fnmr, p_target, c_miss, c_fa), threshold, fmr, fnmr)


def _of_ratios(log_likelihood_ratios: Tensor, same: Tensor) -> Comparisons:
    """Return pairs whose distances are log-likelihood ratios with the sign changed."""
    return Comparisons.of(-log_likelihood_ratios, same, name="log_likelihood_ratios")


def bayes_threshold(p_target: float, c_miss: float, c_fa: float) -> float:
    """Return the log-likelihood ratio from which on accepting costs less than rejecting."""
    return math.log(c_fa * (1 - p_target)) - math.log(c_miss * p_target)


def cllr(log_likelihood_ratios: Tensor, same: Tensor) -> float:
    """Compute the cost of log-likelihood ratios: what they fail to tell, in bits.

        Cllr = 1/2 (mean over same pairs of log2(1 + exp(-s)) + mean over different ones of
               log2(1 + exp(s)))

    Args:
        log_likelihood_ratios: [N] floating point, natural logarithms s; larger means more alike.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        The cost: 0 for ratios that are sure and right, 1 for ratios that say nothing (all are 0),
        above 1 for those that mislead, infinite where one is infinitely sure and wrong.

    Raises:
        TypeError, ValueError: as :func:`min_dcf`.

    Example:
        >>> import torch
        >>> cllr(torch.zeros(4), torch.tensor([True, True, False, False]))
        1.0

    Source: Brümmer, du Preez, *Application-independent evaluation of speaker detection*, Computer
    Speech and Language 2006, section 4.
    """
    return ratio_cost(_of_ratios(log_likelihood_ratios, same))


def ratio_cost(pairs: Comparisons) -> float:
    """Return Cllr, where distances are log-likelihood ratios with the sign changed."""
    means = []
    for part, sign in ((pairs.same, 1), (pairs.different, -1)):
        total = 0.0
        for begin in range(0, len(part), _CHUNK):
            some = part[begin : begin + _CHUNK].astype(np.float64)
            total += float(np.logaddexp(0, sign * some).sum())
        means.append(total / len(part))
    return sum(means) / (2 * math.log(2))


def min_cllr(distances: Tensor, same: Tensor) -> float:
    """Compute Cllr after the best calibration that keeps the order of the pairs.

    The calibration gives every bin of the pool-adjacent-violators algorithm its own likelihood
    ratio, ``(share of same pairs in it) / (share of different pairs in it)``. What :func:`cllr` is
    above this is lost by miscalibration.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. For
            scores, of which larger means more alike, give ``-scores``.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        The cost, in [0, 1] bits.

    Raises:
        TypeError, ValueError: as :func:`min_dcf`.

    Example:
        >>> import torch
        >>> same = torch.tensor([True, True, False, False])
        >>> min_cllr(torch.tensor([0.1, 0.4, 0.3, 0.9]), same)
        0.5

    Source: Brümmer, du Preez, *Application-independent evaluation of speaker detection*, Computer
    Speech and Language 2006, section 5.
    """
    return hull_cllr(hull_of(Comparisons.of(distances, same)))


def hull_cllr(hull: Hull) -> float:
    """Return the minimum Cllr: each edge of the hull is a bin with one likelihood ratio."""
    same, different = -np.diff(hull.fnmr), np.diff(hull.fmr)
    total = same + different
    cost = -_x_log_y(same, same / total) - _x_log_y(different, different / total)
    return float(cost.sum() / (2 * math.log(2)))


def _x_log_y(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(x * np.log(np.where(x > 0, y, 1)))


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    """Check the prior and the costs of errors."""
    if not 0 < p_target < 1:
        raise ValueError(f"p_target must be in (0, 1), got {p_target}")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {cost}")


def _cost(fmr: Any, fnmr: Any, p_target: float, c_miss: float, c_fa: float) -> Any:
    miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
    return (miss * fnmr + alarm * fmr) / min(miss, alarm)
