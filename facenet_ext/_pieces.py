"""The candidates of all ranks, which come round in pieces, so that no rank holds all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext._gathering import Side, gather
from facenet_ext._ranks import Ranks

__all__ = ["Held", "Piece", "Pieces"]


class Piece(NamedTuple):
    """Candidates of all ranks that come round together.

    Attributes:
        side: the kind of candidates that they are.
        begin: the first of this rank's rows among them.
        counts: how many of them each rank has.
        places: ``[n]`` int64, where they are among all candidates, ascending.
    """

    side: int
    begin: int
    counts: list[int]
    places: Tensor


class Held(NamedTuple):
    """Candidates that a rank keeps while the others come round.

    Attributes:
        places: ``[C]`` int64, where they are among all candidates, ascending.
        rows: ``[C, D]``
        far: whether any rank keeps rows of another.
    """

    places: Tensor
    rows: Tensor
    far: bool


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The candidates of all ranks.

    Attributes:
        ranks: the processes; all of them visit the pieces, at the same point of the program.
        sides: ``[N_r, D]`` each, this rank's candidates by their kind. Among all candidates come
            those of the first kind, in rank order, and then those of the next.
        counts: how many each rank has, ``[side][rank]``.
        most: the most rows of a piece, unless there are more ranks: each has a row in it.
    """

    ranks: Ranks
    sides: Sequence[Tensor]
    counts: Sequence[Sequence[int]]
    most: int

    def __iter__(self) -> Iterator[Piece]:
        step = max(1, self.most // self.ranks.size)
        before = 0
        for side, counts in enumerate(self.counts):
            firsts = [before, *itertools.accumulate(counts, initial=before)][1:]
            before = firsts[-1]
            for begin in range(0, max(counts), step):
                parts = [min(max(count - begin, 0), step) for count in counts]
                places = [
                    torch.arange(first + begin, first + begin + part)
                    for first, part in zip(firsts, parts, strict=False)
                ]
                yield Piece(side, begin, parts, torch.cat(places).to(self.sides[side].device))

    def visit(self) -> Iterator[tuple[Piece, Tensor]]:
        """Let the pieces come round: each with its rows, ``[n, D]``."""
        for piece in self:
            end = piece.begin + piece.counts[self.ranks.rank]
            mine = self.sides[piece.side][piece.begin : end].detach()
            (gathered,), _ = gather(self.ranks, [Side("", mine)], [piece.counts])
            yield piece, gathered.rows

    def hold(self, wanted: Tensor) -> Held:
        """Fetch candidates to keep.

        Args:
            wanted: ``[N]``, whether to keep each candidate.
        """
        places = wanted.nonzero().flatten()
        dim = self.sides[0].shape[1]
        rows = self.sides[0].new_empty((len(places), dim))
        mine = torch.zeros_like(places, dtype=torch.bool)
        for side, first, end in self._own():
            inside = (places >= first) & (places < end)
            rows[inside] = self.sides[side].detach()[places[inside] - first]
            mine |= inside
        missing = (~mine.all()).to(self.ranks.device, torch.int32).view(1)
        far = bool(self.ranks.all_reduce(missing).item())
        if far:
            for piece, gathered in self.visit():
                inside, at = find(places, piece.places)
                rows[inside] = gathered[at]
        return Held(places, rows, far)

    def send(self, piece: Piece, gradient: Tensor, to: Sequence[Tensor | None]) -> None:
        """Add up a piece's gradients of all ranks, each rank those of its own rows.

        Args:
            piece: the piece.
            gradient: ``[n, D]``, its gradient from the losses of this rank's anchors.
            to: ``[N_r, D]`` for each kind of candidates, to add to; None where none is needed.
        """
        target = to[piece.side]
        if target is not None:
            mine = self.ranks.reduce_scatter(gradient, piece.counts)
            target[piece.begin : piece.begin + len(mine)] += mine

    def send_held(self, held: Held, gradient: Tensor, to: Sequence[Tensor | None]) -> None:
        """Do what :meth:`send` does for candidates that were kept; ``gradient`` is ``[C, D]``."""
        if held.far:
            for piece in self:
                inside, at = find(held.places, piece.places)
                block = gradient.new_zeros((len(piece.places), gradient.shape[1]))
                block[at] = gradient[inside]
                self.send(piece, block, to)
            return
        for side, first, end in self._own():
            target = to[side]
            if target is not None:
                inside = (held.places >= first) & (held.places < end)
                target[held.places[inside] - first] += gradient[inside]

    def _own(self) -> Iterator[tuple[int, int, int]]:
        """Yield each kind of candidates, and where this rank's rows of it begin and end."""
        before = 0
        for side, counts in enumerate(self.counts):
            first = before + sum(counts[: self.ranks.rank])
            yield side, first, first + counts[self.ranks.rank]
            before += sum(counts)


def find(wanted: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the wanted places, ``[K]``, are among some in ascending order, and where."""
    at = torch.searchsorted(places, wanted).clamp(max=len(places) - 1)
    inside = places[at] == wanted
    return inside, at[inside]
