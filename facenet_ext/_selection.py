"""Triplets that a rule selects, and their loss: what functions and modules both call."""

import math

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext import ops
from facenet_ext._random import draw_seed
from facenet_ext._rule import TripletRule
from facenet_ext._types import TripletCounts, Triplets


def select(
    batch: check.Batch, rule: TripletRule, generator: torch.Generator | None = None
) -> Triplets:
    """The triplets of a batch: see :func:`facenet_ext.select_triplets`."""
    seed = draw_seed(rule.negatives, generator, batch.emb.device)
    check.check_values("embeddings", batch.emb)
    triplets = ops.select_triplets(batch, rule, seed)
    batch.warn_without_triplets(triplets.anchor)
    return triplets


def mined_loss(
    batch: check.Batch,
    rule: TripletRule,
    smooth: bool,
    swap: bool,
    reduction: str,
    max_per_class: int | None,
    generator: torch.Generator | None = None,
    counts: TripletCounts | None = None,
) -> Tensor:
    """The loss of a batch: see :func:`facenet_ext.mined_triplet_loss`.

    ``counts`` gets the loss's triplets added. The fused operator lists none, so they are selected
    once more, from the same seed.
    """
    check.check_flag("smooth", smooth)
    check.check_flag("swap", swap)
    check.check_choice("reduction", reduction, check.REDUCTIONS)
    bound = check.check_max_per_class(max_per_class)
    seed = draw_seed(rule.negatives, generator, batch.emb.device)
    check.check_loss_margin(rule.margin)
    if reduction != "none" and not swap:
        loss = ops.mined_triplet_loss(batch, rule, seed, bound, smooth, reduction)
        batch.warn_without_triplets(loss)
        if counts is not None:
            triplets = ops.select_triplets(batch, rule, seed)
            counts.add(triplets.d_ap - triplets.d_an + rule.margin > 0)
        return loss
    check.check_values("embeddings", batch.emb)
    triplets = ops.select_triplets(batch, rule, seed)
    losses = ops.triplet_losses(
        batch.emb, batch.ref_emb, *triplets[:3], rule.margin, rule.distance, smooth, swap
    )
    batch.warn_without_triplets(losses)
    if counts is not None:
        counts.add(losses > (math.log(2) if smooth else 0))  # softplus(0) is log 2
    loss = reduce(losses, reduction, smooth)
    return loss if reduction == "none" else _poisoned(loss, batch.emb, batch.ref_emb)


def reduce(losses: Tensor, reduction: str, smooth: bool) -> Tensor:
    """The reduction of losses ``[T]``; 0 of none. Softplus is positive, whatever it rounds to."""
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "mean" or (smooth and reduction == "mean_nonzero"):
        return total / max(losses.shape[0], 1)
    if reduction == "mean_nonzero":
        return total / (losses > 0).sum().clamp(min=1)
    return total


def _poisoned(loss: Tensor, *rows: Tensor | None) -> Tensor:
    """NaN where an embedding is not finite, though no triplet may have been selected."""
    for matrix in rows:
        if matrix is not None:
            loss = torch.where(matrix.isfinite().all(), loss, torch.nan)
    return loss
