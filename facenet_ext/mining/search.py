"""Selects triplets over all rows of a training set, a block of anchors at a time.

A block has its anchors' classes along, and with them every positive. It meets the set in chunks: of
each chunk :func:`facenet_ext.select_triplets` returns the best negative of every (anchor,
positive), and the best of these is the best of all. Memory is that of a block and a chunk, whatever
the size of the set, whose embeddings may be a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from facenet_ext import _validation as check
from facenet_ext._agreement import check_same
from facenet_ext._claims import Claims
from facenet_ext._defaults import MINING_BLOCK, MINING_CHUNK
from facenet_ext._ranks import Ranks
from facenet_ext._rule import DETERMINISTIC, TripletRule
from facenet_ext._selection import select
from facenet_ext._types import Triplets

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["PAIRS", "SEMIHARD", "Block", "blocks", "mine", "mine_block"]

PAIRS = 262_144
"""(anchor, positive) of a block where all of them are wanted: each takes some 200 bytes."""


SEMIHARD = TripletRule(positives="hardest", fallback="drop")
"""FaceNet's offline rule: the hardest positive of each anchor, and its semi-hard negative."""


def check_rule(rule: TripletRule) -> None:
    """Raises ValueError unless triplets can be mined by this rule, a chunk at a time."""
    check.check_choice("negatives", rule.negatives, DETERMINISTIC)
    check.check_choice("fallback", rule.fallback, ("drop",))


def most_pairs(rule: TripletRule) -> int | None:
    """How many pairs a block may have, if they decide how much memory it takes."""
    return PAIRS if rule.positives == "all" else None


class Block(NamedTuple):
    """Anchors that are searched for together, with every positive that they have.

    Attributes:
        rows: ``[B]`` int64, the anchors, ascending.
        members: ``[C]`` int64, all rows of their classes, ascending: the anchors themselves, unless
            a class is divided among blocks.
    """

    rows: NDArray[np.int64]
    members: NDArray[np.int64]


def blocks(labels: NDArray[Any], size: int = MINING_BLOCK, pairs: int | None = None) -> list[Block]:
    """Divide the rows that have a positive into blocks of anchors.

    Args:
        labels: ``[N]`` integers.
        size: anchors of a block at most.
        pairs: (anchor, positive) of a block at most; None: any number. Where one anchor has more,
            it is a block of its own.

    Returns:
        The blocks, in the order of the labels. Rows that are alone in their class are in none.

    Raises:
        ValueError: labels that are not 1-D, a bound below 1.
        TypeError: labels that are not integers.

    Example:
        >>> [block.rows.tolist() for block in blocks(np.array([1, 0, 1, 2, 0, 0]), size=3)]
        [[1, 4, 5], [0, 2]]
        >>> [block.rows.tolist() for block in blocks(np.array([1, 0, 1, 2, 0, 0]), size=2)]
        [[1, 4], [5], [0, 2]]
    """
    check_labels(labels)
    for name, bound in (("size", size), ("pairs", pairs)):
        if bound is not None and bound < 1:
            raise ValueError(f"{name}: expected at least 1, got {bound}")
    order = np.argsort(labels, kind="stable").astype(np.int64)
    borders = 1 + np.flatnonzero(labels[order][1:] != labels[order][:-1])
    counts = np.diff(np.concatenate([[0], borders, [len(order)]]))
    order, counts = order[np.repeat(counts > 1, counts)], counts[counts > 1]
    begins = np.cumsum(counts) - counts
    divided: list[Block] = []
    waiting = 0  # the first class that is in no block yet
    rows = held = 0  # how many rows and pairs the classes from there on have
    most = np.inf if pairs is None else pairs

    def close(end: int) -> None:
        nonlocal waiting, rows, held
        if rows:
            members = np.sort(order[begins[waiting] : begins[waiting] + rows])
            divided.append(Block(members, members))
        waiting, rows, held = end, 0, 0

    for number, count in enumerate(counts.tolist()):
        own = count * (count - 1)
        if rows + count > size or held + own > most:
            close(number)
        if count > size or own > most:  # several blocks, each with all of the class as positives
            members = order[begins[number] : begins[number] + count]
            step = size if pairs is None else min(size, max(1, pairs // (count - 1)))
            divided += [Block(members[i : i + step], members) for i in range(0, count, step)]
            waiting = number + 1
        else:
            rows, held = rows + count, held + own
    close(len(counts))
    return divided


def mine(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    rule: TripletRule = SEMIHARD,
    *,
    block: int = MINING_BLOCK,
    chunk: int = MINING_CHUNK,
    device: torch.device | str = "cpu",
    group: ProcessGroup | None = None,
) -> Iterator[Triplets]:
    """Select triplets over all rows, out of core.

    The same triplets as :func:`facenet_ext.select_triplets` on all rows at once would give, but in
    the order of the blocks.

    Args:
        embeddings: ``[N, D]`` float32, float64 or float16; a memory-mapped file is read in chunks.
        labels: ``[N]`` integers.
        rule: how triplets are chosen: by ``"semihard"`` or ``"hardest"`` negatives, and
            ``fallback="drop"``.
        block: anchors that are searched for together.
        chunk: candidates that are in memory at once.
        device: where to compute.
        group: the processes that divide the blocks; all of them call it, with the same arguments.
            None: this process alone.

    Yields:
        The :class:`Triplets` of each block that this process claimed, on the CPU, in lexicographic
        order of (anchor, positive). Their indices are rows of ``embeddings``.

    Raises:
        ValueError: shapes that do not fit, an unknown option, an embedding that is not finite.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> embeddings = np.array([[0.0], [1.0], [-1.0], [1.5]], np.float32)
        >>> for triplets in mine(embeddings, np.array([0, 0, 1, 1])):
        ...     print(torch.stack(triplets[:3], dim=1).tolist())
        [[0, 1, 3], [1, 0, 2]]

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2: triplets generated offline every n
    steps, from the most recent checkpoint.
    """
    ranks = Ranks.among(group)
    check_same(ranks, embeddings=embeddings.shape, rule=rule, block=block)
    for _, one in Claims(ranks).of(blocks(labels, block, most_pairs(rule))):
        yield mine_block(embeddings, labels, one, rule, chunk=chunk, device=device)


def mine_block(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    block: Block,
    rule: TripletRule = SEMIHARD,
    *,
    chunk: int = MINING_CHUNK,
    device: torch.device | str = "cpu",
) -> Triplets:
    """Select the triplets of one block's anchors: see :func:`mine`.

    Args:
        embeddings: see there, as every argument not named here.
        labels: see there.
        block: of :func:`blocks`.
        rule: see there.
        chunk: see there.
        device: see there.
    """
    check_rule(rule)
    check_embeddings(embeddings, labels)
    anchors = _on(device, embeddings[block.rows])
    anchor_labels, anchor_rows = (_on(device, rows) for rows in (labels[block.rows], block.rows))
    best: Triplets | None = None
    for begin in range(0, len(labels), chunk):
        # Each chunk has the block's classes too, for the positives. Ties need ascending rows.
        rows = np.union1d(block.members, np.arange(begin, min(begin + chunk, len(labels))))
        candidates, names = _on(device, embeddings[rows]), _on(device, rows)
        if not bool(torch.isfinite(candidates).all()):
            row = rows[int(torch.isfinite(candidates).all(1).logical_not().nonzero()[0])]
            raise ValueError(f"embeddings: expected finite numbers, got others in row {row}")
        candidate_labels = _on(device, labels[rows])
        # The batch has no name, which would keep its candidates while the next ones are read.
        selected = select(
            check.Batch(anchors, anchor_labels, candidates, candidate_labels, anchor_rows, names),
            rule,
        )
        named = Triplets(
            anchor_rows[selected.anchor],
            names[selected.positive],
            names[selected.negative],
            *selected[3:],
        )
        del candidates
        best = named if best is None else _closer(best, named)
    if best is None:
        raise ValueError("labels: expected at least one row, got none")
    return Triplets(*(field.cpu() for field in best))


def _closer(a: Triplets, b: Triplets) -> Triplets:
    """Return for each (anchor, positive) that one of two triplets whose negative is closer."""
    both = [torch.cat(pair) for pair in zip(a, b, strict=True)]
    anchor, positive, negative, _, d_an = both
    order = torch.argsort(negative, stable=True)  # the lower of two equally close rows is first
    for key in (d_an, positive, anchor):
        order = order[torch.argsort(key[order], stable=True)]
    anchor, positive = anchor[order], positive[order]
    first = torch.ones_like(anchor, dtype=torch.bool)
    first[1:] = (anchor[1:] != anchor[:-1]) | (positive[1:] != positive[:-1])
    return Triplets(*(field[order][first] for field in both))


def _on(device: torch.device | str, array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def check_labels(labels: NDArray[Any]) -> None:
    """Raises unless these are integers in one dimension."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"labels: expected 1 dimension, got shape {labels.shape}")


def check_embeddings(embeddings: NDArray[Any], labels: NDArray[Any]) -> None:
    """Raises unless these are rows of floating-point numbers, one for each label."""
    check_labels(labels)
    if embeddings.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"embeddings: expected float16, float32 or float64, got {embeddings.dtype}")
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings: expected 2 dimensions, got shape {embeddings.shape}")
    if len(embeddings) != len(labels):
        raise ValueError(
            f"labels: expected one per row of embeddings, {len(embeddings)}, got {len(labels)}"
        )
