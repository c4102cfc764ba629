"""What each network costs, side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from facenet_ext._network_names import BUILT_IN
from facenet_ext.models import IRESNETS, PAPER, NormalizedNetwork, SmallNet, registered
from facenet_ext.models.cost import layer_costs, milliseconds_per_image
from facenet_ext.models.registry import build_own, network_source


def summarise(
    in_channels: int = 3,
    embedding_dim: int = 128,
    *,
    batch_norm: bool = False,
    own: Collection[str] = (),
    input_size: int = 112,
    batch: int = 8,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return what each network for images costs, this package's and those that are registered.

    Args:
        in_channels: of the images: 1 grey, 3 colour.
        embedding_dim: numbers of an embedding.
        batch_norm: batch normalisation in the paper's networks.
        own: more networks, each as ``package.module:function``.
        input_size: height and width of the images that networks of one's own see, pixels.
        batch: images timed at once.
        repeats: times to measure; 0 measures no time.
        progress: called with the networks that are done and all there are.

    Returns:
        For each network its name, where it is from (None: this package), input shape, parameters,
        multiply-adds of an image in convolutions and linear layers, bytes of its weights, and
        milliseconds per image, None without ``repeats``.

    Raises:
        InputError: a network of one's own cannot be built.
    """
    networks: dict[str, Callable[[], NormalizedNetwork]] = {
        "small": partial(SmallNet, in_channels, embedding_dim)
    }
    for name, paper in PAPER.items():
        networks[name] = partial(
            paper, embedding_dim, in_channels=in_channels, batch_norm=batch_norm
        )
    for name, iresnet in IRESNETS.items():
        networks[name] = partial(iresnet, embedding_dim, in_channels=in_channels)
    shape = (in_channels, input_size, input_size)
    for name in dict.fromkeys([*registered(), *own]):
        networks[name] = partial(
            build_own, name, shape, embedding_dim=embedding_dim, batch_norm=batch_norm
        )
    rows = []
    for done, (name, make) in enumerate(networks.items()):
        if progress is not None:
            progress(done, len(networks))
        # Without times of them, this package's networks need no weights.
        with torch.device("meta") if name in BUILT_IN and not repeats else nullcontext():
            network = make()
        costs = layer_costs(network)
        rows.append(
            {
                "network": name,
                "source": network_source(name),
                "input": list(network.input_shape),
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
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
