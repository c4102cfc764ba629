"""Work that is divided among processes: each piece is claimed by one of them, through the store.

A counter in the store of ``torch.distributed`` says which piece is next. A rank that is fast takes
more pieces. The store ends with the job, and the claims with it: what a killed rank had claimed and
not finished is free in the next job, whatever its number of processes.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from facenet_ext._ranks import Ranks

__all__ = ["Claims", "claiming", "gather_pieces", "rows_of_block"]

_T = TypeVar("_T")
_NO_MORE = 2**40
_FEWEST = 512  # rows of a block of pairs; with fewer, calls and claims would cost time


class Claims:
    """Gives each piece of work to one of the processes.

    Every process makes this object, at the same point of the program.

    Args:
        ranks: the processes.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._claimed = self._done = 0  # of one process, which needs no store
        self._store: Any = None
        if ranks.size > 1:
            own = int.from_bytes(os.urandom(7), "big")
            self._key = f"facenet_ext/{ranks.number(own)}"
            group = ranks.group or torch.distributed.group.WORLD
            assert group is not None
            self._store = group.get_group_store()

    def of(self, pieces: Iterable[_T]) -> Iterator[tuple[int, _T]]:
        """Yield those pieces that this rank claims, each with its number.

        Args:
            pieces: all of them, in the same order on every rank.
        """
        mine = self._claim()
        for number, piece in enumerate(pieces):
            if number == mine:
                yield number, piece
                mine = self._claim()
            elif mine >= _NO_MORE:
                return

    def _claim(self) -> int:
        if self._store is not None:
            return int(self._store.add(f"{self._key}/claimed", 1)) - 1
        self._claimed += 1
        return self._claimed - 1

    def finish(self, amount: int) -> int:
        """Add to what is done; return how much that is on all ranks together."""
        if self._store is not None:
            return int(self._store.add(f"{self._key}/done", amount))
        self._done += amount
        return self._done

    def stop(self) -> None:
        """Leave no piece for anyone to claim."""
        if self._store is not None:
            self._store.add(f"{self._key}/claimed", _NO_MORE)


@contextlib.contextmanager
def claiming(ranks: Ranks) -> Iterator[Claims]:
    """Yield the claims of some work, and wait at the end until all ranks are there.

    After an exception on one rank no rank gets another piece. All ranks raise it.
    """
    claims = Claims(ranks)
    with ranks.together():
        try:
            yield claims
        except Exception:
            claims.stop()
            raise


def rows_of_block(ranks: Ranks, rows: int, most: int) -> int:
    """How many rows a block of pairs has on each side, so that each rank gets several blocks.

    Args:
        ranks: the processes.
        rows: the number of rows, of the side that has more.
        most: rows that a block may have. A process that is alone takes blocks of this size.
    """
    if ranks.size == 1:
        return most
    return min(most, max(_FEWEST, math.ceil(rows / math.ceil(4 * math.sqrt(ranks.size)))))


def gather_pieces(
    ranks: Ranks, pieces: Mapping[int, Sequence[Tensor]], empty: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Give every rank the results of all, joined in the order of the pieces.

    Args:
        ranks: the processes.
        pieces: by number, what came of each piece that this rank did: tensors of one length.
        empty: tensors of length 0 that are otherwise like those: of a rank without pieces.

    Returns:
        The tensors of all pieces, joined, on the device of ``empty``.
    """
    own = [torch.cat([none, *parts]) for none, *parts in zip(empty, *pieces.values(), strict=True)]
    if ranks.size == 1:
        return tuple(own)
    # Each rank sends the numbers and lengths of its pieces, and then their rows.
    facts = [(number, len(piece[0])) for number, piece in pieces.items()]
    table = ranks.all_gather_rows(torch.tensor(facts, dtype=torch.int64).reshape(-1, 2))
    order = sorted(
        (number, rank, begin, length)
        for rank, rows in enumerate(table)
        for (number, length), begin in zip(rows.tolist(), _begins(rows[:, 1]), strict=True)
    )
    joined = []
    for field in own:
        of_ranks = ranks.all_gather_rows(field)
        rows = [of_ranks[rank][begin : begin + length] for _, rank, begin, length in order]
        joined.append(torch.cat([field[:0], *(part.to(field.device) for part in rows)]))
    return tuple(joined)


def _begins(lengths: Tensor) -> list[int]:
    begins: list[int] = (lengths.cumsum(0) - lengths).tolist()
    return begins
