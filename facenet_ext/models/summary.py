"""What each network costs, side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from facenet_ext.models import PAPER, EmbeddingNetwork, SmallNet
from facenet_ext.models.cost import layer_costs, milliseconds_per_image


def summarise(
    in_channels: int = 3,
    embedding_dim: int = 128,
    *,
    batch_norm: bool = False,
    batch: int = 8,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return what each network costs, the small one and then the paper's.

    Args:
        in_channels: of the images: 1 grey, 3 colour.
        embedding_dim: numbers of an embedding.
        batch_norm: batch normalisation in the paper's networks.
        batch: images timed at once.
        repeats: times to measure; 0 measures no time.
        progress: called with the networks that are done and all there are.

    Returns:
        For each network its name, input shape, parameters, multiply-adds of an image, bytes of its
        weights, and milliseconds per image, None without ``repeats``.
    """
    options: dict[str, Any] = {"in_channels": in_channels, "batch_norm": batch_norm}
    networks: dict[str, Callable[[], EmbeddingNetwork]] = {
        "small": partial(SmallNet, in_channels, embedding_dim)
    }
    networks |= {name: partial(make, embedding_dim, **options) for name, make in PAPER.items()}
    rows = []
    for done, (name, make) in enumerate(networks.items()):
        if progress is not None:
            progress(done, len(networks))
        network = make()
        costs = layer_costs(network)
        rows.append(
            {
                "network": name,
                "input": list(network.input_shape),
                "parameters": sum(cost.parameters for cost in costs),
                "macs": sum(cost.macs for cost in costs),
                "bytes": sum(tensor.nbytes for tensor in network.state_dict().values()),
                "milliseconds_per_image": (
                    milliseconds_per_image(network, batch, repeats) if repeats else None
                ),
            }
        )
    return rows


def as_text(rows: list[dict[str, Any]], batch: int = 8) -> str:
    """Return a table of what :func:`summarise` returned; it timed batches of ``batch`` images."""
    lines = [("network", "input", "parameters", "multiply-adds", "size", "per image")]
    for row in rows:
        time = row["milliseconds_per_image"]
        lines.append(
            (
                row["network"],
                "x".join(map(str, row["input"])),
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:,.1f}M",
                f"{row['bytes'] / 1e6:,.1f} MB",
                "" if time is None else f"{time:,.2f} ms",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    if any(row["milliseconds_per_image"] is not None for row in rows):
        table.append(
            f"Time: float32, batches of {batch}, threads: {torch.get_num_threads()}, the median. "
            "'small' is this project's own network."
        )
    return "\n".join(line.rstrip() for line in table)
