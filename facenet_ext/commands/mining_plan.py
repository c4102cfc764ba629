"""What ``facenet mine`` would do, and how long it would take, before anything is searched."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facenet_ext._rule import TripletRule
from facenet_ext.commands.options import MineOptions
from facenet_ext.common.text import counted
from facenet_ext.mining.search import Block, blocks, mine_block, most_pairs

_SECONDS = 2.0
_ROWS = 32_768  # that the rate is measured on, at most


def plan(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    rule: TripletRule,
    options: MineOptions,
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    """Count the work of a search, and measure on a part of it how long a pair takes here.

    Args:
        embeddings: ``[N, D]``
        labels: ``[N]`` integers.
        rule: of the triplets.
        options: of the command.
        device: where to compute.
        processes: how many would divide the blocks, each as fast as this one.

    Returns:
        Counts and bytes by name, ``pairs_per_second`` of this process, and ``hours`` of all.
    """
    todo = blocks(labels, options.block, most_pairs(rule))
    pairs = sum(len(one.rows) for one in todo) * len(labels)
    if not todo:
        raise ValueError("labels: expected one that two rows have, got none, so nothing to search")
    rate = _measure(embeddings, labels, todo, rule, options, device)
    return {
        "rows": len(labels),
        "pairs": pairs,
        "operations": 2 * embeddings.shape[1] * pairs,
        "blocks": len(todo),
        "bytes_read": len(todo) * embeddings.nbytes,
        "bytes_sent": 0,
        "processes": processes,
        "pairs_per_second": rate,
        "hours": pairs / rate / processes / 3600,
    }


def _measure(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    todo: list[Block],
    rule: TripletRule,
    options: MineOptions,
    device: torch.device,
) -> float:
    """Return the pairs that this process compares in a second."""
    rows = todo[0].members
    for one in todo[1:]:
        if len(rows) + len(one.members) > _ROWS:
            break
        rows = np.union1d(rows, one.members)
    some, of_rows = np.ascontiguousarray(embeddings[rows]), labels[rows]
    pairs, begin = 0, 0.0
    for one in itertools.cycle(blocks(of_rows, options.block, most_pairs(rule))):
        mine_block(some, of_rows, one, rule, chunk=options.chunk, device=device)
        if not begin:  # the first call loads code and allocates memory too, so it does not count
            begin = time.perf_counter()
            continue
        pairs += len(one.rows) * len(rows)
        if time.perf_counter() - begin > _SECONDS:
            break
    return pairs / (time.perf_counter() - begin)


def sentences(figures: dict[str, Any]) -> list[str]:
    """Tell a plan in a few lines."""
    hours = figures["hours"]
    shown = f"{hours * 3600:.0f} seconds" if hours < 1 / 30 else f"{hours:,.2f} hours"
    return [
        f"{figures['pairs']:.3g} pairs of {counted(figures['rows'], 'row')}, "
        f"{figures['operations']:.3g} operations, in {counted(figures['blocks'], 'block')}",
        f"{figures['bytes_read'] / 1e9:,.1f} GB are read from the embeddings; the processes send "
        "each other nothing but claims of blocks",
        f"about {shown} on {counted(figures['processes'], 'process')}, at the "
        f"{figures['pairs_per_second']:.2g} pairs a second measured here",
    ]
