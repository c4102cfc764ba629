"""The rows of all ranks, gathered at once: what a batch's candidates are made of."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facenet_ext._ranks import Ranks

__all__ = ["Agreement", "Gathered", "Side", "gather"]

_MOST_SIDES = 2


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


class Agreement:
    """Makes sure that what the ranks are about to send fits together.

    Args:
        equal_rows: the caller's promise that all ranks always have as many rows as each other. Then
            only the first call with rows of a shape asks.
    """

    def __init__(self, equal_rows: bool) -> None:
        self.equal_rows = equal_rows
        self._agreed: str | None = None

    def __call__(
        self, ranks: Ranks, sides: Sequence[Side], options: str, error: Exception | None
    ) -> list[list[int]]:
        """Asks all ranks, by one all-gather of four numbers, and one more to tell what differs.

        Args:
            ranks: who has to agree.
            sides: what this rank has; not looked at where it has an error.
            options: what has to be the same besides.
            error: what this rank would raise.

        Returns:
            How many rows each rank has, ``[side][rank]``.

        Raises:
            ValueError: something differs; on every rank, with the rank and both values.
            Exception: the error of any rank, on every rank.
        """
        sizes = [len(side.rows) for side in sides]
        facts = "\n".join([options, *(_describe(side, self.equal_rows) for side in sides)])
        if self.equal_rows and error is None and facts == self._agreed:
            return [[size] * ranks.size for size in sizes]
        code = hashlib.blake2b(facts.encode(), digest_size=8).digest()
        numbers = [int(error is not None), int.from_bytes(code, "little", signed=True), *sizes]
        numbers += [0] * (2 + _MOST_SIDES - len(numbers))
        table = ranks.all_gather(torch.tensor(numbers, device=ranks.device)).tolist()
        if any(row[0] for row in table):
            ranks.raise_first(error)
        if any(row[1] != table[0][1] for row in table):
            _raise_difference([text.split("\n") for text in ranks.tell(facts)])
        self._agreed = facts
        return [[row[2 + at] for row in table] for at in range(len(sides))]


def _describe(side: Side, with_rows: bool) -> str:
    needs = side.rows.requires_grad and torch.is_grad_enabled()
    rows = f"{len(side.rows)} rows of " if with_rows else ""
    return (
        f"{side.name}: {rows}{side.rows.shape[1]} columns of {side.rows.dtype}\n"
        f"{side.name}: {'a' if needs else 'no'} gradient is needed"
    )


def _raise_difference(facts: Sequence[Sequence[str]]) -> None:
    for rank, of_rank in enumerate(facts):
        for got, expected in itertools.zip_longest(of_rank, facts[0], fillvalue="nothing"):
            if got != expected:
                raise ValueError(f"rank {rank} differs from rank 0: {got}; on rank 0 {expected}")
    raise ValueError("the ranks differ in options or shapes that are too long to show")


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
        counts: rows of each rank, ``[side][rank]``: see :class:`Agreement`.
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
