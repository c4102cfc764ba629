"""What ``facenet mine`` would do, and how long it would take, before anything is searched."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facenet_ext._rule import TripletRule
from facenet_ext.common.text import counted
from facenet_ext.mining.search import blocks, mine_block, most_pairs

_SECONDS = 2.0
_ROWS = 32_768  # that the rate is measured on, at most


def plan(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    rule: TripletRule,
    *,
    block: int,
    chunk: int,
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    """Count the work of a search, and measure on a part of it how long a pair takes here.

    Args:
        embeddings: ``[N, D]``
        labels: ``[N]`` integers.
        rule: of the triplets.
        block: anchors at once.
        chunk: candidates at once.
        device: where to compute.
        processes: how many would divide the blocks, each as fast as this one.

    Returns:
        Counts and bytes by name, ``pairs_per_second`` of this process, and ``hours`` of all.
    """
    todo = blocks(labels, block, most_pairs(rule))
    pairs = sum(len(one.rows) for one in todo) * len(labels)
    rate = _measure(embeddings, labels, rule, block, chunk, device)
    return {
        "rows": len(labels),
        "pairs": pairs,
        "operations": 2 * embeddings.shape[1] * pairs,
        "blocks": len(todo),
        "bytes_read": len(todo) * len(labels) * embeddings.shape[1] * embeddings.itemsize,
        "bytes_sent": 0,
        "processes": processes,
        "pairs_per_second": rate,
        "hours": pairs / rate / processes / 3600 if rate else 0.0,
    }


def _measure(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    rule: TripletRule,
    block: int,
    chunk: int,
    device: torch.device,
) -> float:
    """Return the pairs that this process compares in a second; 0 if no row has a positive."""
    part = min(_ROWS, len(labels))
    # Rows of the same classes, as they are in a block, and others.
    rows = np.sort(np.argsort(labels, kind="stable")[:part])
    some, of_rows = np.ascontiguousarray(embeddings[rows]), labels[rows]
    todo = blocks(of_rows, block, most_pairs(rule))
    pairs, begin = 0, time.perf_counter()
    for number in range(len(todo) and 1_000_000):
        one = todo[number % len(todo)]
        mine_block(some, of_rows, one, rule, chunk=chunk, device=device)
        if number == 0 and len(todo) > 1:  # the first call also loads and allocates
            begin = time.perf_counter()
            continue
        pairs += len(one.rows) * part
        if time.perf_counter() - begin > _SECONDS:
            break
    return pairs / (time.perf_counter() - begin) if pairs else 0.0


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
