"""Accuracy over folds, each judged by the threshold that is best on the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext.metrics._comparisons import check_both_kinds, check_pairs
from facenet_ext.metrics.verification import count

__all__ = ["KFoldAccuracy", "kfold_accuracy"]


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
        TypeError, ValueError: as :func:`.roc`; or there are fewer than two folds, or a fold has no
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
    distances, same = check_pairs(distances, same)
    distances = distances.double()
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
            check_both_kinds(kinds, f"fold {fold}")
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
    thresholds, same_accepted, different_accepted = count(*check_pairs(distances, same))
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
