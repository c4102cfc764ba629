"""The batch of all ranks: this rank's anchors, and everybody's rows as candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from facenet_ext._across import Across
from facenet_ext._gathering import Agreement, Gathered, Side, gather
from facenet_ext._random import draw_seed
from facenet_ext._validation import Batch

__all__ = ["Exchange", "Received"]


@dataclasses.dataclass(frozen=True)
class Received:
    """What an exchange brought.

    Attributes:
        sides: what this rank has of each side.
        gathered: what all ranks have of each side that is sent.
        first: where this rank's rows begin among those of all ranks, of each side.
        totals: how many rows all ranks have of each side.
        seed: ``[1]`` int64, rank 0's; None: the rule is not random.
    """

    sides: Sequence[Side]
    gathered: Sequence[Gathered]
    first: Sequence[int]
    totals: Sequence[int]
    seed: Tensor | None

    def rows(self, side: int) -> Tensor:
        """``[M]``: the places of this rank's rows among those of all ranks."""
        own = self.sides[side].rows
        return torch.arange(len(own), device=own.device) + self.first[side]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """How a module's ranks get each other's rows.

    Attributes:
        across: the ranks.
        agreement: the module's.
        options: what has to be the same on all ranks, besides shapes.
        negatives: the rule's, whose seed is sent along if it is random.
    """

    across: Across
    agreement: Agreement
    options: str
    negatives: str = ""

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
        gathered, seed = gather(ranks, sides, counts, seed)
        return Received(
            sides,
            gathered,
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
        (mine,), candidates, rows = kept, received.gathered[-1], received.rows(0)
        ref_labels, *rest = candidates.integers
        anchor_ids, ref_ids = mine.anchor_ids, rest[0] if rest else None
        if mine.ref_emb is None:  # a row is not its own positive
            anchor_ids, ref_ids = rows, torch.arange(received.totals[0], device=rows.device)
        whole = Batch(mine.emb, mine.labels, candidates.rows, ref_labels, anchor_ids, ref_ids)
        return self.placed(whole, rows, received.seed), received.first[0]

    def placed(self, batch: Batch, rows: Tensor, seed: Tensor | None) -> Batch:
        """The batch as a part of all ranks': ``rows`` are its anchors' there."""
        batch.across = self.across
        batch.seed = None if seed is None else torch.cat([seed, rows])
        return batch
