"""Triplets that a rule selects, and their loss: what functions and modules both call."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from facenet_ext import _in_pieces, ops
from facenet_ext import _validation as check
from facenet_ext._across import Across
from facenet_ext._random import draw_seed
from facenet_ext._rule import TripletRule
from facenet_ext._types import TripletCounts, Triplets


def select(
    batch: check.Batch, rule: TripletRule, generator: torch.Generator | None = None
) -> Triplets:
    """The triplets of a batch: see :func:`facenet_ext.select_triplets`."""
    seed = _seed_of(batch, rule, generator)
    check.check_triplets_can_be_counted(batch.emb)
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

    The triplets of the loss are added to ``counts``. The fused operator lists none, so they are
    selected once more, from the same seed.
    """
    check.check_flag("smooth", smooth)
    check.check_flag("swap", swap)
    check.check_choice("reduction", reduction, check.REDUCTIONS)
    bound = check.check_max_per_class(max_per_class)
    seed = _seed_of(batch, rule, generator)
    check.check_loss_margin(rule.margin)
    whole = reduction != "none" and not swap and batch.pieces is None
    if counts is not None or not whole:
        check.check_triplets_can_be_counted(batch.emb)
    if whole:
        loss = ops.mined_triplet_loss(batch, rule, seed, bound, smooth, reduction)
        batch.warn_without_triplets(loss)
        if counts is not None:
            triplets = ops.select_triplets(batch, rule, seed)
            counts.add(triplets.d_ap - triplets.d_an + rule.margin > 0, batch.across)
        return loss
    active = torch.empty(0, dtype=torch.bool)

    def losses() -> Tensor:
        nonlocal active
        if batch.pieces is not None:
            of_triplets = _in_pieces.triplet_losses(batch, rule, smooth, swap)
        else:
            rows = ops.select_triplets(batch, rule, seed)[:3]
            of_triplets = ops.triplet_losses(
                batch.emb, batch.ref_emb, *rows, rule.margin, rule.distance, smooth, swap
            )
        active = of_triplets > (math.log(2) if smooth else 0)  # softplus(0) is log 2
        return of_triplets

    candidates = [batch.ref_emb] if batch.pieces is None else batch.pieces.sides
    loss = _reduced(losses, reduction, smooth, batch.across, batch.emb, *candidates)
    batch.warn_without_triplets(active)
    if counts is not None:
        counts.add(active, batch.across)
    return loss


def given_loss(
    embeddings: Tensor,
    triplets: Triplets | tuple[Tensor, Tensor, Tensor],
    margin: float,
    distance: str,
    smooth: bool,
    swap: bool,
    reduction: str,
    ref_emb: Tensor | None,
    across: Across | None = None,
) -> Tensor:
    """The loss of given triplets: see :func:`facenet_ext.triplet_loss`."""
    check.check_embeddings("embeddings", embeddings)
    check.check_loss_margin(margin)
    check.check_choice("distance", distance, check.DISTANCES)
    check.check_flag("smooth", smooth)
    check.check_flag("swap", swap)
    check.check_choice("reduction", reduction, check.REDUCTIONS)
    if ref_emb is not None:
        embeddings, ref_emb = check.check_pair("embeddings", embeddings, "ref_emb", ref_emb)

    def losses() -> Tensor:
        rows = check.check_triplet_rows("triplets", triplets, embeddings, ref_emb)
        return ops.triplet_losses(embeddings, ref_emb, *rows, float(margin), distance, smooth, swap)

    return _reduced(losses, reduction, smooth, across)


def margin_loss(
    batch: check.Batch,
    margin: float,
    triplets: str,
    distance: str,
    smooth: bool,
    reduction: str,
    max_per_class: int | None,
) -> Tensor:
    """The loss of every triplet of a kind: see :func:`facenet_ext.triplet_margin_loss`."""
    check.check_loss_margin(margin)
    check.check_choice("triplets", triplets, check.TRIPLETS)
    check.check_choice("distance", distance, check.DISTANCES)
    check.check_flag("smooth", smooth)
    check.check_choice("reduction", reduction, check.SCALAR_REDUCTIONS)
    bound = check.check_max_per_class(max_per_class)
    compute = ops.triplet_margin_loss if batch.pieces is None else _in_pieces.margin_loss
    loss = compute(batch, triplets, float(margin), distance, bound, smooth, reduction)
    batch.warn_without_triplets(loss)
    return loss


def _seed_of(
    batch: check.Batch, rule: TripletRule, generator: torch.Generator | None
) -> Tensor | None:
    """What a random rule draws from."""
    if batch.seed is not None:
        return batch.seed
    return draw_seed(rule.negatives, generator, batch.emb.device)


def _reduced(
    compute: Callable[[], Tensor],
    reduction: str,
    smooth: bool,
    across: Across | None,
    *rows: Tensor | None,
) -> Tensor:
    """The reduction of computed losses ``[T]``, of all ranks with ``across``; without triplets 0.

    NaN if any of ``rows`` is not finite, even one that is in no triplet.
    """
    if reduction == "none":
        return compute() if across is None else across.concatenated(compute)

    def reduced(totals: list[Tensor] | None = None) -> Tensor:
        losses = compute()
        total = losses.sum()
        for matrix in rows:
            if matrix is not None:
                total = torch.where(matrix.isfinite().all(), total, torch.nan)
        if totals is not None:
            nonzero = len(losses) if smooth else (losses > 0).sum().item()
            counts = total.new_tensor([len(losses), nonzero], dtype=torch.float64)
            totals.append(torch.cat([total.detach().double().view(1), counts]))
        if reduction == "sum":
            return total
        if smooth or reduction == "mean":  # softplus is positive, whatever it rounds to
            return total / max(losses.shape[0], 1)
        return total / (losses > 0).sum().clamp(min=1)

    return reduced() if across is None else across.loss(reduced, reduction)
