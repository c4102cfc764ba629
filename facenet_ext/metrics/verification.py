"""VAL and FAR, and what is computed of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons, allowed, check_pairs, check_share
from facenet_ext.metrics._hull import hull_of

__all__ = [
    "EqualErrorRate",
    "OperatingPoint",
    "Roc",
    "area",
    "auc",
    "count",
    "eer",
    "eer_convex_hull",
    "roc",
    "val_far",
]

_CHUNK = 2**18


class Roc(NamedTuple):
    """The receiver operating characteristic: an entry per distinct distance, and one before them.

    Attributes:
        thresholds: [T] float64, increasing; the first is -inf, which accepts nothing.
        val: [T] float64, VAL at each threshold, from 0 to 1.
        far: [T] float64, FAR at each threshold, from 0 to 1.
    """

    thresholds: Tensor
    val: Tensor
    far: Tensor


class OperatingPoint(NamedTuple):
    """What one threshold accepts, chosen for a wanted false accept rate.

    Attributes:
        wanted_far: the rate that was asked for.
        reachable: whether these pairs can measure that rate: there are at least ``1 / wanted_far``
            different pairs, and some threshold accepts no larger share of them.
        val: the share of same pairs accepted at ``threshold``.
        far: the share of different pairs really accepted at ``threshold``, at most ``wanted_far``.
        threshold: the largest observed distance whose FAR is at most ``wanted_far``.

    If the rate is not reachable, the last three describe the closest stricter point, or are NaN
    where there is none. They do not say what VAL is at the wanted rate.
    """

    wanted_far: float
    reachable: bool
    val: float
    far: float
    threshold: float


class EqualErrorRate(NamedTuple):
    """The error rate where false accepts and false rejects balance.

    Attributes:
        rate: FAR = 1 - VAL at the crossing.
        threshold: the observed distance at which the crossing is reached or passed.
    """

    rate: float
    threshold: float


def roc(distances: Tensor, same: Tensor) -> Roc:
    """Compute VAL and FAR at every observed distance.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        A :class:`Roc`: one entry per distinct distance, after one that accepts nothing.

    Raises:
        TypeError: ``distances`` is not floating point or ``same`` is not bool.
        ValueError: they are not 1-D of one length, a distance is not finite, or one of the two
            kinds of pair is missing.

    Example:
        >>> same = torch.tensor([True, True, False, False])
        >>> curve = roc(torch.tensor([0.1, 0.4, 0.4, 0.9]), same)
        >>> curve.val.tolist(), curve.far.tolist()
        ([0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0])

    Source: FaceNet, section 4, equations 5 and 6.
    """
    thresholds, same_accepted, different_accepted = count(*check_pairs(distances, same))
    return Roc(
        thresholds,
        val=same_accepted.double() / same_accepted[-1],
        far=different_accepted.double() / different_accepted[-1],
    )


def val_far(distances: Tensor, same: Tensor, far: float = 1e-3) -> OperatingPoint:
    """Find VAL at a wanted FAR: the share of same pairs accepted at a strict enough threshold.

    The threshold is ``max { t : FAR(t) <= far }`` over the observed distances. With N different
    pairs the smallest rate that can be measured is 1/N: asking for less is answered with
    ``reachable=False``, never with a made-up threshold.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.
        far: the wanted false accept rate, in (0, 1].

    Returns:
        An :class:`OperatingPoint`, which tells the FAR really reached.

    Raises:
        TypeError, ValueError: as :func:`roc`, or ``far`` is outside (0, 1].

    Example:
        >>> distances = torch.tensor([0.1, 0.3, 0.2, 0.8])
        >>> same = torch.tensor([True, True, False, False])
        >>> val_far(distances, same, far=0.5)[1:4]
        (True, 1.0, 0.5)
        >>> val_far(distances, same, far=1e-3).reachable
        False

    Source: FaceNet, section 4.
    """
    check_share("far", far)
    pairs = Comparisons.of(distances, same, finite=True)
    most = allowed(far, len(pairs.different))
    threshold = pairs.strictest(most)
    if threshold is None:  # even the smallest observed distance accepts too much
        return OperatingPoint(far, False, math.nan, math.nan, math.nan)
    matches, false_matches = pairs.accepted(threshold)
    return OperatingPoint(
        wanted_far=far,
        reachable=most >= 1,
        val=int(matches) / len(pairs.same),
        far=int(false_matches) / len(pairs.different),
        threshold=threshold,
    )


def auc(distances: Tensor, same: Tensor) -> float:
    """Compute the area under the ROC curve: P(same pair is nearer than a different pair).

    Ties count one half.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        The area, in [0, 1]; 0.5 is chance.

    Raises:
        TypeError, ValueError: as :func:`roc`.

    Example:
        >>> auc(torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([True, True, False, False]))
        0.75

    Source: Hanley, McNeil, *The meaning and use of the area under a ROC curve*, Radiology 1982.
    """
    return area(Comparisons.of(distances, same, finite=True))


def area(pairs: Comparisons) -> float:
    """Return the share of same and different pairs of which the same one is nearer."""
    nearer = 0.0  # a tie counts a half, so that the sum has multiples of a half and is exact
    for begin in range(0, len(pairs.same), _CHUNK):
        some = pairs.same[begin : begin + _CHUNK]
        below, up_to = (pairs.different.searchsorted(some, side) for side in ("left", "right"))
        nearer += float((2 * len(pairs.different) - below - up_to).sum()) / 2
    return nearer / len(pairs.same) / len(pairs.different)


def eer(distances: Tensor, same: Tensor) -> EqualErrorRate:
    """Compute the equal error rate by interpolation: where FAR(t) = 1 - VAL(t).

    ``FAR + VAL - 1`` grows strictly from -1 to 1 along the ROC, so there is one crossing. If it
    falls among pairs at equal distances, a share of these counts as accepted, which is what
    accepting them at random would give.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        An :class:`EqualErrorRate`.

    Raises:
        TypeError, ValueError: as :func:`roc`.

    Example:
        >>> eer(torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([True, True, False, False])).rate
        0.5

    Source: Maio et al., *FVC2000: Fingerprint Verification Competition*, PAMI 2002, section 4.
    """
    threshold, rate = Comparisons.of(distances, same, finite=True).crossing()
    return EqualErrorRate(rate, threshold)


def eer_convex_hull(distances: Tensor, same: Tensor) -> float:
    """Compute the equal error rate of the convex hull of the ROC.

    Two thresholds may be mixed at random, so every point between two points of the ROC is within
    reach. The hull has the best of these. Its equal error rate is never above that of :func:`eer`,
    and is the largest expected error, over all shares of same pairs, of a threshold that is best
    for the share:

        EER = max over p of min over t of (p FNMR(t) + (1 - p) FMR(t))

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike. An
            infinite one is farther than all others.
        same: [N] bool, whether the pair is of one identity.

    Returns:
        The rate, in [0, 0.5].

    Raises:
        TypeError, ValueError: as :func:`roc`, but a distance may be infinite.

    Example:
        >>> distances = torch.tensor([0.1, 0.4, 0.5, 0.3, 0.6, 0.9])
        >>> same = torch.tensor([True, True, True, False, False, False])
        >>> round(eer(distances, same).rate, 4), round(eer_convex_hull(distances, same), 4)
        (0.3333, 0.2222)

    Source: Brümmer, de Villiers, *The BOSARIS toolkit: theory, algorithms and code for surviving
    the new DCF*, 2013, section 5.
    """
    return hull_of(Comparisons.of(distances, same)).equal_error_rate()


def count(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count the accepted pairs of each kind at -inf and at every distinct distance.

    Returns:
        Thresholds [T] float64, accepted same pairs [T] int64, accepted different pairs [T] int64;
        the last entries are all the pairs.
    """
    distances, order = distances.double().sort()
    ends = torch.ones_like(same)
    ends[:-1] = distances[:-1] < distances[1:]  # a block of equal distances enters as one
    accepted_same = same[order].cumsum(0)[ends]
    accepted = torch.nonzero(ends).flatten() + 1
    before = distances.new_tensor([-math.inf])
    zero = accepted.new_zeros(1)
    return (
        torch.cat([before, distances[ends]]),
        torch.cat([zero, accepted_same]),
        torch.cat([zero, accepted - accepted_same]),
    )
