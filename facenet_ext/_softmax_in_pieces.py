"""The softmax losses where the candidates of all ranks come round in pieces, in plain torch.

An anchor's state is the logarithm of its sum, which merges. The kernels keep that to themselves, so
tiles of scores are made here, in float64. See ``csrc/semantics/softmax.h`` for the formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from facenet_ext._across import divisor
from facenet_ext._pieces import Pieces
from facenet_ext._validation import Batch
from facenet_ext.ops._registration import differentiable_once, value_type

__all__ = ["softmax_loss"]

_TILE = 2**20  # scores


def softmax_loss(batch: Batch, loss: str, temperature: float, reduction: str) -> Tensor:
    """The loss of that name; the pieces come round once, and once more in the backward.

    Args:
        batch: candidates in pieces.
        loss: "supcon" or "ntxent".
        temperature: see ``functional``.
        reduction: see ``functional``.
    """
    pieces, across = batch.pieces, batch.across
    assert pieces is not None
    assert across is not None

    def compute(totals: list[Tensor]) -> Tensor:
        total: Tensor = _Softmax.apply(  # type: ignore[no-untyped-call]
            batch, loss, temperature, totals, batch.emb, *pieces.sides
        )
        return total / divisor(totals[0], reduction).to(total.dtype)

    return across.loss(compute, reduction, batch.has_negatives())


def _directions(rows: Tensor) -> Tensor:
    """Rows of length 1; one of zeros has no direction and stays."""
    return normalize(rows.double(), eps=torch.finfo(torch.float64).tiny)


class _Tile(NamedTuple):
    """Some anchors and a piece.

    Attributes:
        anchors: which.
        scores: ``[m, n]`` cosines by the temperature.
        positive: ``[m, n]`` whether it is a positive.
        summed: ``[m, n]`` whether it is in the anchor's sum.
    """

    anchors: slice
    scores: Tensor
    positive: Tensor
    summed: Tensor


def _tiles(
    batch: Batch, loss: str, temperature: float, x: Tensor, places: Tensor, y: Tensor
) -> Iterator[_Tile]:
    assert batch.ref_labels is not None
    step = max(1, _TILE // len(y))
    for begin in range(0, len(x), step):
        anchors = slice(begin, begin + step)
        positive = batch.labels[anchors, None] == batch.ref_labels[places]
        negative = ~positive
        if batch.anchor_ids is not None and batch.ref_ids is not None:
            positive = positive & (batch.anchor_ids[anchors, None] != batch.ref_ids[places])
        summed = negative | positive if loss == "supcon" else negative
        yield _Tile(anchors, x[anchors] @ y.T / temperature, positive, summed)


class _Softmax(torch.autograd.Function):
    """The sum of the loss, and its totals."""

    @staticmethod
    def forward(
        ctx: Any,
        batch: Batch,
        loss: str,
        temperature: float,
        totals: list[Tensor],
        emb: Tensor,
        *sides: Tensor,
    ) -> Tensor:
        pieces: Any = batch.pieces
        x = _directions(emb)
        log_sum = torch.full_like(x[:, 0], -torch.inf)
        counts = torch.zeros(2, len(x), dtype=torch.int64, device=x.device)
        scores: list[tuple[Tensor, Tensor]] = [(counts[0, :0], log_sum[:0])]  # positives
        finite = emb.isfinite().all()
        for piece, rows in pieces.visit():
            finite &= rows.isfinite().all()
            for tile in _tiles(batch, loss, temperature, x, piece.places, _directions(rows)):
                of_tile = tile.scores.masked_fill(~tile.summed, -torch.inf).logsumexp(1)
                log_sum[tile.anchors] = torch.logaddexp(log_sum[tile.anchors], of_tile)
                negative = tile.summed & ~tile.positive
                counts[:, tile.anchors] += torch.stack([tile.positive.sum(1), negative.sum(1)])
                anchor, _ = tile.positive.nonzero(as_tuple=True)
                scores.append((anchor + tile.anchors.start, tile.scores[tile.positive]))
        anchor, score = (torch.cat(parts) for parts in zip(*scores, strict=True))
        short = log_sum[anchor] - score
        of_supcon = loss == "supcon"
        positives, negatives = counts
        share = positives.clamp(min=1).double() if of_supcon else torch.ones_like(log_sum)
        share = share.reciprocal()
        terms = short if of_supcon else softplus(short, threshold=700.0)
        slopes = torch.ones_like(short) if of_supcon else short.sigmoid()
        # index_put sorts, and so has one order of additions on a GPU too.
        summed = torch.zeros_like(share).index_put((anchor,), slopes, accumulate=True)
        ctx.factor = share * summed
        total = (share[anchor] * terms).sum()
        if of_supcon:
            counted = positives.new_tensor(len(x))
            nonzero = ((positives > 0) & (positives + negatives > 1)).sum()
        else:
            counted = positives.sum()
            nonzero = positives[negatives > 0].sum()
        poison = torch.where(finite, 1.0, torch.nan)
        totals.append(torch.stack([total * poison, counted.double(), nonzero.double()]))
        ctx.batch, ctx.loss, ctx.temperature, ctx.poison = batch, loss, temperature, poison
        ctx.log_sum, ctx.share = log_sum, share
        ctx.save_for_backward(emb, *sides)
        return (total * poison).to(value_type(emb.dtype))

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        emb, *sides = ctx.saved_tensors
        pieces: Pieces = ctx.batch.pieces
        x = _directions(emb)
        of_x = torch.zeros_like(x)
        to = [
            torch.zeros_like(side, dtype=torch.float64) if needs else None
            for side, needs in zip(sides, ctx.needs_input_grad[5:], strict=True)
        ]
        for piece, rows in pieces.visit():
            y = _directions(rows)
            of_y = torch.zeros_like(y)
            for tile in _tiles(ctx.batch, ctx.loss, ctx.temperature, x, piece.places, y):
                at = tile.anchors
                log_sum, share = ctx.log_sum[at, None], ctx.share[at, None]
                weights = ctx.factor[at, None] * (tile.scores - log_sum).exp()
                weights = weights.masked_fill(~tile.summed, 0)
                slopes = 1.0 if ctx.loss == "supcon" else (log_sum - tile.scores).sigmoid()
                weights -= tile.positive * share * slopes
                of_x[at] += weights @ y / ctx.temperature
                of_y += weights.T @ x[at] / ctx.temperature
            pieces.send(piece, of_y, to)
        results = [
            None if g is None else _of_rows(rows, g * ctx.poison * grads[0])
            for rows, g in zip((emb, *sides), (of_x, *to), strict=True)
        ]
        return None, None, None, None, *results


def _of_rows(rows: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of rows from that of their directions."""
    direction = _directions(rows)
    length = rows.double().norm(dim=1, keepdim=True)
    along = (direction * gradient).sum(1, keepdim=True)
    across = (gradient - along * direction) / length
    return torch.where(length == 0, 0, across).to(rows.dtype)
