"""Losses of this rank's anchors where the candidates of all ranks come round in pieces.

A rank keeps all positives of its anchors, and compares them with the negatives of each piece. For
each positive it keeps the best negative of all pieces so far. Sums over pieces are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facenet_ext import ops
from facenet_ext._across import divisor
from facenet_ext._pieces import Held, Piece, Pieces, find
from facenet_ext._rule import TripletRule
from facenet_ext._types import Triplets
from facenet_ext._validation import Batch
from facenet_ext.ops._registration import differentiable_once, value_type

__all__ = ["margin_loss", "triplet_losses"]

_BACKWARD = torch.ops.facenet_ext.triplet_losses_backward.default
_NO_BANK = (None, None, None, None)
_ALL_TRIPLETS = torch.ops.facenet_ext.triplet_margin_loss.default


def triplet_losses(batch: Batch, rule: TripletRule, smooth: bool, swap: bool) -> Tensor:
    """The losses ``[T]`` of the triplets that a rule selects, in order of (anchor, positive).

    The pieces come round once to select, once more for ``swap``, and once in the backward.

    Args:
        batch: candidates in pieces.
        rule: not one that draws at random.
        smooth: see ``functional``.
        swap: see ``functional``.
    """
    assert batch.pieces is not None
    losses: Tensor = _TripletLosses.apply(  # type: ignore[no-untyped-call]
        batch, rule, smooth, swap, batch.emb, *batch.pieces.sides
    )
    return losses


def margin_loss(batch: Batch, *options: Any) -> Tensor:
    """The loss of every triplet of a kind; the pieces come round once.

    Args:
        batch: candidates in pieces.
        options: of the operator; the last one is the reduction.
    """
    pieces, across, reduction = batch.pieces, batch.across, options[-1]
    assert pieces is not None
    assert across is not None

    def compute(totals: list[Tensor]) -> Tensor:
        loss: Tensor = _AllTriplets.apply(  # type: ignore[no-untyped-call]
            batch, options, totals, batch.emb, *pieces.sides
        )
        return loss / divisor(totals[0], reduction).to(loss.dtype)

    return across.loss(compute, reduction)


def _positives(batch: Batch) -> tuple[Pieces, Held]:
    """The pieces, and the candidates of the anchors' classes, which the rank keeps."""
    assert batch.pieces is not None
    assert batch.ref_labels is not None
    return batch.pieces, batch.pieces.hold(torch.isin(batch.ref_labels, batch.labels))


class _Block(NamedTuple):
    """Anchors that meet a piece together, with every candidate of their classes.

    A block compares its anchors with the candidates of its own classes again for each piece. That
    takes time, but changes no result.

    Attributes:
        batch: of all anchors.
        anchors: ``[B]`` which of them are in this block.
        emb: ``[B, D]``, these anchors.
        held: ``[C]``, the candidates of their classes, as places among those that are kept.
        places: ``[C]``, the same as places among all candidates.
        rows: ``[C, D]``, these candidates.
    """

    batch: Batch
    anchors: Tensor
    emb: Tensor
    held: Tensor
    places: Tensor
    rows: Tensor

    def beside(self, places: Tensor, rows: Tensor) -> Batch:
        """The batch of the anchors with some of all candidates."""
        of, anchors = self.batch, self.anchors
        assert of.ref_labels is not None
        ids = None if of.anchor_ids is None else of.anchor_ids[anchors]
        ref_ids = None if of.ref_ids is None else of.ref_ids[places]
        return Batch(self.emb, of.labels[anchors], rows, of.ref_labels[places], ids, ref_ids)


def _blocks(batch: Batch, held: Held, pieces: Pieces) -> list[_Block]:
    """Divides the anchors by their classes, so that a block's candidates are few beside a piece."""
    assert batch.ref_labels is not None
    classes, of_anchor = torch.unique(batch.labels, return_inverse=True)
    of_held = torch.searchsorted(classes, batch.ref_labels[held.places])
    before = torch.bincount(of_held, minlength=len(classes)).cumsum(0)
    number = before.div(max(1, pieces.most // 8), rounding_mode="floor")
    emb, blocks = batch.emb.detach(), []
    for block in torch.unique_consecutive(number):
        anchors = (number[of_anchor] == block).nonzero().flatten()
        own = (number[of_held] == block).nonzero().flatten()
        blocks.append(_Block(batch, anchors, emb[anchors], own, held.places[own], held.rows[own]))
    return blocks


def _select(batch: Batch, rule: TripletRule, pieces: Pieces, held: Held) -> tuple[Triplets, Tensor]:
    """Returns the triplets of all pieces, and whether every row is finite.

    Positives and negatives of the triplets are places among all candidates.
    """
    assert batch.ref_labels is not None
    count = len(batch.ref_labels)
    blocks = _blocks(batch, held, pieces)
    best: list[Triplets | None] = [None] * len(blocks)
    finite = batch.emb.isfinite().all()
    for piece, rows in pieces.visit():
        finite &= rows.isfinite().all()
        for at, block in enumerate(blocks):
            # Ties need candidates in ascending order. A piece may have rows that the block has too.
            both = torch.cat([block.places, piece.places])
            places, where = torch.unique(both, return_inverse=True)
            order = torch.empty_like(places)
            order[where] = torch.arange(len(where), device=order.device)
            part = block.beside(places, torch.cat([block.rows, rows])[order])
            anchor, positive, negative, *distances = ops.select_triplets(part, rule, None)
            new = Triplets(block.anchors[anchor], places[positive], places[negative], *distances)
            before = best[at]
            best[at] = new if before is None else _merged(before, new, rule, count)
    none = ops.select_triplets(Batch(batch.emb[:0], batch.labels[:0], *_NO_BANK), rule, None)
    joined = Triplets(
        *(torch.cat(fields) for fields in zip(none, *filter(None, best), strict=True))
    )
    order = torch.argsort(joined.anchor * count + joined.positive)
    return Triplets(*(field[order] for field in joined)), finite


def _merged(a: Triplets, b: Triplets, rule: TripletRule, candidates: int) -> Triplets:
    """Takes for each (anchor, positive) the better of the triplets that two pieces have for it."""
    keys = torch.cat([t.anchor * candidates + t.positive for t in (a, b)])
    pairs, where = torch.unique(keys, return_inverse=True)
    entries = torch.full((2, len(pairs)), -1, device=keys.device)
    entries[0, where[: len(a.anchor)]] = torch.arange(len(a.anchor), device=keys.device)
    entries[1, where[len(a.anchor) :]] = torch.arange(len(a.anchor), len(keys), device=keys.device)
    both = Triplets(*(torch.cat(fields) for fields in zip(a, b, strict=True)))
    first, second = entries.clamp(min=0)
    qualifies = _qualifies(both, rule)
    same = qualifies[first] == qualifies[second]
    # The closest of the negatives that qualify wins, and the farthest of those of the fallback.
    distance = torch.where(qualifies, both.d_an, -both.d_an)
    closer = (distance[second] < distance[first]) | (
        (distance[second] == distance[first]) & (both.negative[second] < both.negative[first])
    )
    wins = torch.where(same, closer, qualifies[second])
    wins = torch.where(entries.min(0).values < 0, entries[0] < 0, wins)
    chosen = torch.where(wins, second, first)
    return Triplets(*(field[chosen] for field in both))


def _qualifies(triplets: Triplets, rule: TripletRule) -> Tensor:
    """Which negatives the rule itself selected; the fallback selected the others."""
    d_ap, d_an = triplets[3:]
    if rule.negatives == "hardest":
        return torch.ones_like(d_an, dtype=torch.bool)
    beyond = d_an > d_ap
    return beyond & (d_an < d_ap + rule.margin) if rule.within_margin else beyond


class _TripletLosses(torch.autograd.Function):
    """``[T]`` losses, from the anchors and this rank's candidates of each kind."""

    @staticmethod
    def forward(
        ctx: Any,
        batch: Batch,
        rule: TripletRule,
        smooth: bool,
        swap: bool,
        emb: Tensor,
        *sides: Tensor,
    ) -> Tensor:
        pieces, held = _positives(batch)
        triplets, finite = _select(batch, rule, pieces, held)
        options: Any = (rule.margin, rule.distance, smooth, swap)
        if swap:
            losses = triplets.d_an.clone()
            for _, rows, inside, index in _of_pieces(pieces, held, triplets):
                losses[inside] = ops.triplet_losses(batch.emb, rows, *index, *options)
        else:
            gap = triplets.d_ap - triplets.d_an + rule.margin
            losses = torch.logaddexp(gap, torch.zeros_like(gap)) if smooth else gap.clamp(min=0)
        ctx.held, ctx.triplets, ctx.options, ctx.pieces = held, triplets, options, pieces
        ctx.poison = torch.where(finite, 1.0, torch.nan).to(losses.dtype)
        ctx.save_for_backward(emb, *sides)
        poisoned: Tensor = losses * ctx.poison
        return poisoned

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        emb, *sides = ctx.saved_tensors
        pieces, held, triplets = ctx.pieces, ctx.held, ctx.triplets
        value = value_type(emb.dtype)
        emb_grad = torch.zeros_like(emb, dtype=value)
        held_grad = torch.zeros_like(held.rows, dtype=value)
        to = _targets(sides, ctx.needs_input_grad[5:])
        for piece, rows, inside, index in _of_pieces(pieces, held, triplets):
            of_emb, of_rows = _BACKWARD(grads[0][inside], emb.detach(), rows, *index, *ctx.options)
            emb_grad += of_emb
            held_grad += of_rows[: len(held.rows)]
            pieces.send(piece, of_rows[len(held.rows) :], to)
        pieces.send_held(held, held_grad, to)
        results = [
            None if grad is None else (grad * ctx.poison).to(emb.dtype) for grad in (emb_grad, *to)
        ]
        return None, None, None, None, *results


def _targets(sides: Any, needed: Any) -> list[Tensor | None]:
    """Zeros to add the gradients of this rank's candidates to; None where none is needed."""
    return [
        torch.zeros_like(side, dtype=value_type(side.dtype)) if needs else None
        for side, needs in zip(sides, needed, strict=True)
    ]


def _of_pieces(
    pieces: Pieces, held: Held, triplets: Triplets
) -> Iterator[tuple[Piece, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]]:
    """Yields each piece with the triplets whose negatives are in it.

    Yields:
        The piece; the rows that the rank keeps and those of the piece, ``[C + n, D]``; whether each
        triplet is one of these, ``[T]``; the anchors of these, and their positives and negatives as
        places among the rows.
    """
    positive = torch.searchsorted(held.places, triplets.positive)
    for piece, rows in pieces.visit():
        inside, at = find(triplets.negative, piece.places)
        index = triplets.anchor[inside], positive[inside], len(held.places) + at
        yield piece, torch.cat([held.rows, rows]), inside, index


class _AllTriplets(torch.autograd.Function):
    """The sum of the loss, whose gradient comes with it, and its totals.

    The operator sees the candidates that a block keeps again with each piece. So the sums over them
    alone are subtracted each time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        batch: Batch,
        options: tuple[Any, ...],
        totals: list[Tensor],
        emb: Tensor,
        *sides: Tensor,
    ) -> Tensor:
        pieces, held = _positives(batch)
        emb_needs, *needs = ctx.needs_input_grad[3:]
        to = _targets(sides, needs)

        def of(block: _Block, places: Tensor, rows: Tensor) -> list[Tensor]:
            part = block.beside(places, rows)
            _, *means, sums = _ALL_TRIPLETS(*part.tensors(), *options, emb_needs, any(needs))
            count = divisor(sums, options[-1])
            return [sums, *(mean.mul_(count) for mean in means)]

        value = value_type(emb.dtype)
        sums = emb.new_zeros(3, dtype=torch.float64)
        emb_grad = torch.zeros_like(emb, dtype=value)
        held_grad = torch.zeros_like(held.rows, dtype=value)
        blocks = _blocks(batch, held, pieces)
        before = [of(block, block.places, block.rows) for block in blocks]
        for block, (own_sums, of_emb, of_held) in zip(blocks, before, strict=True):
            sums += own_sums
            if emb_needs:
                emb_grad[block.anchors] = of_emb
            if any(needs):
                held_grad[block.held] = of_held
        for piece, rows in pieces.visit():
            gradient = torch.zeros_like(rows, dtype=value)
            for block, alone in zip(blocks, before, strict=True):
                new = ~torch.isin(piece.places, block.places)
                places = torch.cat([block.places, piece.places[new]])
                own_sums, of_emb, of_rows = of(block, places, torch.cat([block.rows, rows[new]]))
                sums += own_sums - alone[0]
                if emb_needs:
                    emb_grad[block.anchors] += of_emb - alone[1]
                if any(needs):
                    held_grad[block.held] += of_rows[: len(block.held)] - alone[2]
                    gradient[new] += of_rows[len(block.held) :]
            if any(needs):
                pieces.send(piece, gradient, to)
        if any(needs):
            pieces.send_held(held, held_grad, to)
        totals.append(sums)
        ctx.gradients = emb_grad if emb_needs else None, *to
        ctx.save_for_backward(emb, *sides)
        return sums[0].to(value)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        dtype = ctx.saved_tensors[0].dtype
        scaled = [None if g is None else (g * grads[0]).to(dtype) for g in ctx.gradients]
        return None, None, None, *scaled
