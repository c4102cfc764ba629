"""``facenet models``: what each network costs."""

from __future__ import annotations

import json
from typing import Any

import torch
from rich.table import Table

from facenet_ext.commands.options import ModelsOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.text import counted
from facenet_ext.models import (
    PAPER,
    EmbeddingNetwork,
    SmallNet,
    layer_costs,
    milliseconds_per_image,
)

__all__ = ["execute"]


def execute(options: ModelsOptions) -> None:
    """Do what the command line says."""
    names = ("small", *PAPER)
    with Counting("measuring", make_console(stderr=True)) as progress:
        rows = []
        for number, name in enumerate(names):
            progress(number, len(names))
            rows.append(_describe(name, _make(name, options), options))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    console = make_console()
    table = Table(title=f"networks for embeddings of {options.embedding_dim} numbers")
    for column in ("network", "input", "parameters", "multiply-adds", "size", "per image"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        milliseconds = row["milliseconds_per_image"]
        table.add_row(
            row["network"],
            "x".join(map(str, row["input"])),
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e6:,.1f}M",
            f"{row['bytes'] / 1e6:,.1f} MB",
            "" if milliseconds is None else f"{milliseconds:,.2f} ms",
        )
    console.print(table)
    if options.repeats:
        console.print(
            f"time: {counted(torch.get_num_threads(), 'thread')}, float32, batches of "
            f"{options.batch}, the median; 'small' is this project's own"
        )


def _make(name: str, options: ModelsOptions) -> EmbeddingNetwork:
    if name == "small":
        return SmallNet(options.in_channels, options.embedding_dim)
    return PAPER[name](
        options.embedding_dim, in_channels=options.in_channels, batch_norm=options.batch_norm
    )


def _describe(name: str, network: EmbeddingNetwork, options: ModelsOptions) -> dict[str, Any]:
    costs = layer_costs(network)
    parameters = sum(cost.parameters for cost in costs)
    time = (
        milliseconds_per_image(network, options.batch, options.repeats) if options.repeats else None
    )
    return {
        "network": name,
        "input": list(network.input_shape),
        "parameters": parameters,
        "macs": sum(cost.macs for cost in costs),
        "bytes": sum(tensor.nbytes for tensor in network.state_dict().values()),
        "milliseconds_per_image": time,
    }
