"""The batch of all ranks: this rank's anchors, and everybody's rows as candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from facenet_ext._across import Across
from facenet_ext._agreement import Agreement
from facenet_ext._gathering import Gathered, Side, gather
from facenet_ext._pieces import Pieces
from facenet_ext._random import draw_seed
from facenet_ext._ranks import Ranks
from facenet_ext._validation import Batch

__all__ = ["Exchange", "Received"]


@dataclasses.dataclass(frozen=True)
class Received:
    """What an exchange brought.

    Attributes:
        sides: what this rank has of each side.
        gathered: what all ranks have of each side that is sent; no rows, where they come round.
        pieces: the sides that are sent, where their rows come round, or None.
        first: where this rank's rows begin among those of all ranks, of each side.
        totals: how many rows all ranks have of each side.
        seed: ``[1]`` int64, rank 0's; None: the rule is not random.
    """

    sides: Sequence[Side]
    gathered: Sequence[Gathered]
    pieces: Pieces | None
    first: Sequence[int]
    totals: Sequence[int]
    seed: Tensor | None

    def rows(self, side: int) -> Tensor:
        """``[M]``: the places of this rank's rows among those of all ranks."""
        own = self.sides[side].rows
        return torch.arange(len(own), device=own.device) + self.first[side]

    def batch(
        self, emb: Tensor, labels: Tensor, anchor_ids: Tensor | None, ref_ids: Tensor | None
    ) -> Batch:
        """Anchors with the candidates of all ranks: those of each side that is sent."""
        ref_labels = _joined([side.integers[0] for side in self.gathered])
        if self.pieces is None:
            rows = _joined([side.rows for side in self.gathered])
            return Batch(emb, labels, rows, ref_labels, anchor_ids, ref_ids)
        batch = Batch(emb, labels, None, None, None, None)
        batch.meet(self.pieces, ref_labels, anchor_ids, ref_ids)
        return batch


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))  # cat would copy it


@dataclasses.dataclass(frozen=True)
class Exchange:
    """How a module's ranks get each other's rows.

    Attributes:
        across: the ranks.
        agreement: the module's.
        options: what has to be the same on all ranks besides shapes, by its name.
        negatives: the rule's, whose seed is sent along if it is random.
        chunk_rows: how many rows of all ranks a rank gets at once; None: all of them.
    """

    across: Across
    agreement: Agreement
    options: Mapping[str, object]
    negatives: str = ""
    chunk_rows: int | None = None

    def receive(self, prepare: Callable[[], Sequence[Side]]) -> Received:
        """Exchanges rows.

        Args:
            prepare: checks what this rank was given, and returns it.

        Raises:
            ValueError: ranks that do not fit together.
            Exception: what ``prepare`` raised on any rank, on every rank.
        """
        ranks = self.across.ranks
        sides: Sequence[Side] = ()
        error = None
        try:
            sides = prepare()
        except Exception as raised:
            error = raised
        counts = self.agreement(ranks, sides, self.options, error)
        seed = draw_seed(self.negatives, None, sides[0].rows.device)
        pieces = None
        if self.chunk_rows is None:
            gathered, seed = gather(ranks, sides, counts, seed)
        else:
            gathered = _integers(ranks, sides, counts)
            of_all = [(s.rows, c) for s, c in zip(sides, counts, strict=True) if s.sent]
            rows, of_ranks = zip(*of_all, strict=True)
            pieces = Pieces(ranks, rows, of_ranks, self.chunk_rows)
        return Received(
            sides,
            gathered,
            pieces,
            [sum(of_side[: ranks.rank]) for of_side in counts],
            [sum(of_side) for of_side in counts],
            seed,
        )

    def batch(self, prepare: Callable[[], Batch]) -> tuple[Batch, int]:
        """This rank's anchors with the candidates of all ranks: all anchors, or all banks' rows.

        Args:
            prepare: returns this rank's batch.

        Returns:
            The batch, and where its anchors begin in that of all ranks.
        """
        kept: list[Batch] = []

        def sides() -> Sequence[Side]:
            batch = prepare()
            kept.append(batch)
            if batch.ref_emb is None or batch.ref_labels is None:
                return [Side("embeddings", batch.emb, (batch.labels,))]
            ids = () if batch.ref_ids is None else (batch.ref_ids,)
            return [
                Side("embeddings", batch.emb, (batch.labels,), sent=False),
                Side("ref_emb", batch.ref_emb, (batch.ref_labels, *ids)),
            ]

        received = self.receive(sides)
        (mine,), rows = kept, received.rows(0)
        _, *rest = received.gathered[-1].integers
        anchor_ids, ref_ids = mine.anchor_ids, rest[0] if rest else None
        if mine.ref_emb is None:  # a row is not its own positive
            anchor_ids, ref_ids = rows, torch.arange(received.totals[0], device=rows.device)
        whole = received.batch(mine.emb, mine.labels, anchor_ids, ref_ids)
        return self.placed(whole, rows, received.seed), received.first[0]

    def placed(self, batch: Batch, rows: Tensor, seed: Tensor | None) -> Batch:
        """Say of a batch which rows of the batch of all ranks its anchors are; return it."""
        batch.across = self.across
        batch.seed = None if seed is None else torch.cat([seed, rows])
        return batch


def _integers(
    ranks: Ranks, sides: Sequence[Side], counts: Sequence[Sequence[int]]
) -> list[Gathered]:
    """The integers of all ranks, without their rows."""
    integers = [Side(s.name, s.integers[0], s.integers[1:], s.sent) for s in sides]
    gathered, _ = gather(ranks, integers, counts)
    return [
        Gathered(side.rows[:0], (all_ranks.rows, *all_ranks.integers))
        for side, all_ranks in zip((s for s in sides if s.sent), gathered, strict=True)
    ]
