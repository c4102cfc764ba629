"""The rows of all ranks, gathered at once: what a batch's candidates are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facenet_ext._ranks import Ranks

__all__ = ["Gathered", "Side", "gather"]


@dataclasses.dataclass(frozen=True)
class Side:
    """This rank's rows: anchors, or candidates of a bank.

    Attributes:
        name: as the caller calls them.
        rows: ``[M, D]``
        integers: ``[M]`` int64 each: labels, ids.
        sent: whether other ranks need them, or only how many there are.
    """

    name: str
    rows: Tensor
    integers: tuple[Tensor, ...] = ()
    sent: bool = True


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The rows of all ranks, in rank order.

    Attributes:
        rows: ``[N, D]``; their gradient goes home, added up over ranks.
        integers: ``[N]`` int64 each.
    """

    rows: Tensor
    integers: tuple[Tensor, ...]


def gather(
    ranks: Ranks,
    sides: Sequence[Side],
    counts: Sequence[Sequence[int]],
    seed: Tensor | None = None,
) -> tuple[list[Gathered], Tensor | None]:
    """Gathers the rows and integers of all ranks by one all-gather.

    Args:
        ranks: who sends and receives.
        sides: what this rank has.
        counts: rows of each rank, ``[side][rank]``: see :class:`.Agreement`.
        seed: ``[]`` int64, of which rank 0's is taken.

    Returns:
        The :class:`Gathered` of each side that is sent, and the seed.
    """
    sides_sent = [(s, of_side) for s, of_side in zip(sides, counts, strict=True) if s.sent]
    parts = [
        (tensor, of_side) for side, of_side in sides_sent for tensor in (side.rows, *side.integers)
    ]
    sent = [_as_bytes(tensor, max(of_side)) for tensor, of_side in parts]
    if seed is not None:
        sent.append(seed.view(1).view(torch.uint8))
    blocks = ranks.all_gather(torch.cat(sent))
    columns = torch.split(blocks, [len(part) for part in sent], dim=1)
    if seed is not None:
        seed = columns[-1][0].clone().view(torch.int64)
    received = iter(
        _from_bytes(column, tensor, of_side)
        for column, (tensor, of_side) in zip(columns, parts, strict=False)
    )
    gathered = []
    for side, of_side in sides_sent:
        rows = next(received)
        if side.rows.requires_grad and torch.is_grad_enabled():
            rows = _Rows.apply(side.rows, rows, ranks, of_side)  # type: ignore[no-untyped-call]
        gathered.append(Gathered(rows, tuple(next(received) for _ in side.integers)))
    return gathered, seed


def _row_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape[1:]) * tensor.element_size()


def _as_bytes(tensor: Tensor, rows: int) -> Tensor:
    """A tensor's bytes, and zeros where it has fewer rows than that."""
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
    return nn.functional.pad(flat, (0, rows * _row_bytes(tensor) - len(flat)))


def _from_bytes(blocks: Tensor, like: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all ranks from ``[ranks, bytes]``, without what was padded."""
    rows = [block[: count * _row_bytes(like)] for block, count in zip(blocks, counts, strict=True)]
    return torch.cat(rows).view(like.dtype).view(-1, *like.shape[1:])


class _Rows(torch.autograd.Function):
    """The gathered rows as a function of this rank's."""

    @staticmethod
    def forward(
        ctx: Any, mine: Tensor, gathered: Tensor, ranks: Ranks, counts: Sequence[int]
    ) -> Tensor:
        ctx.ranks, ctx.counts = ranks, counts
        return gathered

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return ctx.ranks.reduce_scatter(grads[0], ctx.counts), None, None, None
