"""Accuracy over folds, with the identities drawn anew: what the choice of thresholds adds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics import _curves
from facenet_ext.metrics._clusters import (
    Counts,
    Whose,
    count_by_identity,
    draw_weights,
    replicate_rates,
)
from facenet_ext.metrics.resampling import THRESHOLDS
from facenet_ext.metrics.sources import PairBlock, TensorPairs
from facenet_ext.metrics.thresholds import some_thresholds

__all__ = ["replicate_choices"]


def replicate_choices(
    pairs: TensorPairs,
    labels: Tensor | None,
    folds: Tensor,
    share: float,
    *,
    replicates: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return by how much accuracy changes in replicates because they choose other thresholds.

    With A the accuracy at a threshold, of a smooth curve, D_f the deviation of a replicate from it
    on the pairs of fold f, and E_f that on the pairs of nobody in f:

        t_f    = argmax over t of A(t) + E_f(t),    t_0 = argmax over t of A(t)
        change = mean over f of (A + D_f)(t_f) - (A + D_f)(t_0)

    Accuracy is flat at its best threshold, so this is small beside D_f(t_0). But the best of many
    thresholds varies much: with 150 people, a difference is spread 6 % more by it.

    Args:
        pairs: whose accuracy it is.
        labels: [items] integers, the identity of each item; None where items are identities.
        folds: [N] or [N, 2] integers, see :func:`.kfold_accuracy`; all the same where thresholds
            were chosen on the pairs that they judge.
        share: how much of accuracy is of same pairs; the rest is of different ones.
        replicates: how many.
        seed: of the drawing; with that of :func:`.resample` the same identities are drawn.

    Returns:
        [replicates].

    Source: Cattaneo, Jansson, Nagasawa, *Bootstrap-based inference for cube root asymptotics*,
    Econometrica 2020, for a choice around a smooth curve.
    """
    edges = some_thresholds(pairs.sorted(), THRESHOLDS).astype(np.float64)
    width = len(edges) + 1
    whose = Whose.of(pairs.used, labels)

    def columns(block: PairBlock) -> NDArray[np.int64]:
        column: NDArray[np.int64] = np.searchsorted(edges, block.distances)
        return column + np.where(block.same, 0, width)

    def count(some: TensorPairs) -> Counts:
        return count_by_identity(some.blocks(), whose, columns, 2 * width)

    whole = count(pairs)
    weights = draw_weights(len(whole.by_identity), replicates, seed)

    def accuracies(counts: Counts) -> NDArray[np.float64]:
        matches, false_matches = (
            replicate_rates(counts, slice(begin, begin + width), weights) for begin in (0, width)
        )
        rows: NDArray[np.float64] = share * matches - (1 - share) * false_matches
        return rows

    rates = (whole.totals[:width], whole.totals[width:])
    same, different = (int(of.sum()) for of in rates)
    matches, false_matches = (np.pad(of.cumsum() / of.sum(), (1, 0))[None] for of in rates)
    fmr, fnmr = _curves.smoothed(false_matches, 1 - matches, different, same)
    smooth = -(share * fnmr + (1 - share) * fmr)[0, 1:-1]
    best = smooth.argmax()
    row = np.arange(replicates)
    change = np.zeros(replicates)
    folds = folds.reshape(len(pairs.same), -1)
    numbers = torch.unique(folds).tolist()
    for number in numbers:
        inside = folds == number
        held_out = accuracies(count(pairs[inside.all(1)]))
        others = whole if len(numbers) == 1 else whole - count(pairs[inside.any(1)])
        chosen = accuracies(others)
        at = (smooth + chosen[1:] - chosen[:1]).argmax(1)
        moved = smooth + held_out[1:] - held_out[:1]
        change += (moved[row, at] - moved[:, best]) / len(numbers)
    return change
