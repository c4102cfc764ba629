"""Verification metrics: how well a threshold on a distance tells same from different.

A set of pairs is given as two tensors, the distance of each pair and whether the pair is of the
same identity. A pair is *accepted* when its distance is at most the threshold:

    VAL(t) = accepted same pairs / same pairs            (the true accept rate)
    FAR(t) = accepted different pairs / different pairs  (the false accept rate)

Pairs at equal distances are accepted together or not at all, of either kind, and rates are not
interpolated between two measured ones.

Source: Schroff, Kalenichenko, Philbin, *FaceNet: A Unified Embedding for Face Recognition and
Clustering*, CVPR 2015, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "EqualErrorRate",
    "KFoldAccuracy",
    "OperatingPoint",
    "Roc",
    "auc",
    "eer",
    "kfold_accuracy",
    "roc",
    "val_far",
]


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


class KFoldAccuracy(NamedTuple):
    """Accuracy on each fold, with the threshold chosen on all the other folds.

    Attributes:
        mean: the mean over folds.
        standard_error: the standard deviation over folds divided by sqrt(folds).
        accuracies: [F] float64, accuracy on each fold.
        thresholds: [F] float64, the threshold each fold was judged with.
    """

    mean: float
    standard_error: float
    accuracies: Tensor
    thresholds: Tensor


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
    thresholds, same_accepted, different_accepted = _count(*_check_pairs(distances, same))
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
    if not 0 < far <= 1:
        raise ValueError(f"far must be in (0, 1], got {far}")
    thresholds, same_accepted, different_accepted = _count(*_check_pairs(distances, same))
    n_same, n_different = int(same_accepted[-1]), int(different_accepted[-1])
    # Counts are compared, with room for rounding: in floating point 0.29 * 100 is less than 29.
    allowed = math.floor(far * n_different * (1 + 1e-12))
    last = int((different_accepted <= allowed).sum()) - 1
    if last == 0:  # even the smallest observed distance accepts too much
        return OperatingPoint(far, False, math.nan, math.nan, math.nan)
    return OperatingPoint(
        wanted_far=far,
        reachable=allowed >= 1,
        val=int(same_accepted[last]) / n_same,
        far=int(different_accepted[last]) / n_different,
        threshold=thresholds[last].item(),
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
    curve = roc(distances, same)
    return torch.trapezoid(curve.val, curve.far).item()


def eer(distances: Tensor, same: Tensor) -> EqualErrorRate:
    """Compute the equal error rate: where FAR(t) = 1 - VAL(t).

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
    thresholds, same_accepted, different_accepted = _count(*_check_pairs(distances, same))
    n_same, n_different = int(same_accepted[-1]), int(different_accepted[-1])
    # FAR + VAL - 1 times both numbers of pairs: whole numbers, so the crossing is exact.
    balance = different_accepted * n_same + same_accepted * n_different - n_same * n_different
    after = int((balance < 0).sum())
    share = int(-balance[after - 1]) / int(balance[after] - balance[after - 1])
    far = different_accepted[after - 1 : after + 1].double() / n_different
    return EqualErrorRate(far[0].lerp(far[1], share).item(), thresholds[after].item())


def kfold_accuracy(
    distances: Tensor, same: Tensor, folds: Tensor | int = 10, *, balanced: bool = False
) -> KFoldAccuracy:
    """Measure accuracy on each fold with the threshold that is best on all the other folds.

    Accuracy is the share of pairs judged rightly, ``(accepted same + rejected different) / all``;
    balanced, it is ``(VAL + 1 - FAR) / 2``, which does not depend on how many pairs of each kind
    there are. Of thresholds that are equally good the smallest is taken, half-way to the next
    observed distance.

    Pairs that share an identity are not independent, so folds must not share one either. Else the
    threshold is chosen on the people that it is judged on, and the standard error is too small. So
    folds may be given for identities, as two numbers for each pair.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.
        folds: [N] integer, the fold of each pair; or [N, 2] integer, the folds of the two
            identities of each pair: a fold is then judged on the pairs with both identities in it,
            by the threshold that is best on the pairs with neither in it; or a number of folds,
            over which each kind of pair is dealt out in turn, where no two pairs share an identity.
        balanced: weigh the two kinds of pair equally.

    Returns:
        A :class:`KFoldAccuracy`, with folds in increasing order of their number.

    Raises:
        TypeError, ValueError: as :func:`roc`; or there are fewer than two folds, or a fold has no
            pair, or (balanced) lacks one of the two kinds, or the other folds do.

    Example:
        >>> distances = torch.tensor([0.1, 0.2, 0.8, 0.9, 0.1, 0.7, 0.6, 0.9])
        >>> same = torch.tensor([True, True, False, False] * 2)
        >>> result = kfold_accuracy(distances, same, torch.tensor([0] * 4 + [1] * 4))
        >>> result.mean, result.standard_error
        (0.875, 0.125)

        With two images of each of eight identities, four in a fold:

        >>> identity = torch.arange(16) // 2
        >>> first, second = torch.triu_indices(16, 16, offset=1)
        >>> same = identity[first] == identity[second]
        >>> folds = torch.stack([identity[first], identity[second]], dim=1) // 4
        >>> kfold_accuracy(1.0 - same.float(), same, folds, balanced=True).mean
        1.0

    Source: Huang et al., *Labeled Faces in the Wild*, UMass technical report 07-49, 2007, view 2.
    """
    distances, same = _check_pairs(distances, same)
    folds = _check_folds(folds, same)
    accuracies, thresholds = [], []
    for fold in _numbers(folds):
        inside = folds == fold
        held_out, others = inside.all(1), ~inside.any(1)
        kinds = same[held_out]
        if not len(kinds):
            raise ValueError(f"fold {fold} has no pair of two of its own identities")
        threshold = _best_threshold(distances[others], same[others], balanced)
        right = ((distances[held_out] <= threshold) == kinds).double()
        if balanced:
            _check_both_kinds(kinds, f"fold {fold}")
            accuracies.append((right[kinds].mean() + right[~kinds].mean()).item() / 2)
        else:
            accuracies.append(right.mean().item())
        thresholds.append(threshold)
    accuracy = torch.tensor(accuracies, dtype=torch.float64)
    return KFoldAccuracy(
        mean=accuracy.mean().item(),
        standard_error=accuracy.std(unbiased=True).item() / math.sqrt(len(accuracy)),
        accuracies=accuracy,
        thresholds=torch.tensor(thresholds, dtype=torch.float64),
    )


def _best_threshold(distances: Tensor, same: Tensor, balanced: bool) -> float:
    """Return the threshold of the highest accuracy, half-way to the next observed distance."""
    thresholds, same_accepted, different_accepted = _count(*_check_pairs(distances, same))
    if balanced:  # whole numbers still, so that equally good thresholds compare equal
        score = same_accepted * different_accepted[-1] - different_accepted * same_accepted[-1]
    else:
        score = same_accepted - different_accepted
    best = int(score.argmax())
    here = thresholds[best]
    there = thresholds[min(best + 1, len(thresholds) - 1)]
    middle = (here + there) / 2
    # Between neighbouring floats the middle may round up to `there`, which would be accepted too.
    return (middle if middle < there else here).item()


def _count(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count the accepted pairs of each kind at -inf and at every distinct distance.

    Returns:
        Thresholds [T] float64, accepted same pairs [T] int64, accepted different pairs [T] int64;
        the last entries are all the pairs.
    """
    distances, order = distances.sort()
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


def _check_pairs(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Check a set of pairs and return it on the CPU, the distances in float64."""
    if not distances.is_floating_point():
        raise TypeError(f"distances must be floating point, got {distances.dtype}")
    if same.dtype != torch.bool:
        raise TypeError(f"same must be bool, got {same.dtype}")
    if distances.ndim != 1 or distances.shape != same.shape:
        raise ValueError(
            "distances and same must be 1-D and of one length, "
            f"got shapes {tuple(distances.shape)} and {tuple(same.shape)}"
        )
    if not torch.isfinite(distances).all():
        bad = int((~torch.isfinite(distances)).sum())
        raise ValueError(f"distances must be finite, got {bad} NaN or infinite")
    same = same.detach().cpu()
    _check_both_kinds(same, "same")
    return distances.detach().cpu().double(), same


def _check_both_kinds(same: Tensor, where: str) -> None:
    n_same = int(same.sum())
    n_different = same.numel() - n_same
    if n_same == 0 or n_different == 0:
        raise ValueError(
            "there must be pairs of the same and of different identities, "
            f"{where} has {n_same} same and {n_different} different"
        )


def _check_folds(folds: Tensor | int, same: Tensor) -> Tensor:
    """Return the folds of pairs, [N, 1] or [N, 2]; a number of folds deals the pairs out."""
    if isinstance(folds, int):
        count, folds = folds, torch.zeros(same.shape, dtype=torch.int64)
        for kind in (same, ~same):
            folds[kind] = torch.arange(int(kind.sum())) % max(1, count)
        if count > len(_numbers(folds)):
            raise ValueError(f"{count} folds need at least as many pairs of one kind")
    elif folds.is_floating_point() or folds.dtype == torch.bool:
        raise TypeError(f"folds must be integers, got {folds.dtype}")
    elif folds.shape not in (same.shape, (*same.shape, 2)):
        raise ValueError(
            f"folds must have one entry per pair, or two, got shape {tuple(folds.shape)} "
            f"for {same.numel()} pairs"
        )
    folds = folds.detach().cpu().reshape(len(same), -1)
    if len(_numbers(folds)) < 2:
        raise ValueError(f"there must be two folds or more, got {len(_numbers(folds))}")
    return folds


def _numbers(folds: Tensor) -> list[int]:
    return [int(number) for number in torch.unique(folds).tolist()]
