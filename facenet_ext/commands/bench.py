"""``facenet bench``: what this machine does with the kernels and a network."""

from __future__ import annotations

import json
import math
import statistics
import timeit
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table

from facenet_ext import TripletSemiHardLoss, build_info
from facenet_ext.all_pairs import distance_histogram
from facenet_ext.commands.devices import find_device
from facenet_ext.commands.options import BenchOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.neighbours import nearest, within

_MOST_THREADS = 1024


def execute(options: BenchOptions) -> None:
    """Do what the command line says."""
    device = find_device(options.device)
    if options.threads is not None:
        if options.threads > _MOST_THREADS:
            raise InputError(f"--threads {options.threads}: expected at most {_MOST_THREADS}")
        torch.set_num_threads(options.threads)
    rows, dim, batch = options.rows, options.dim, options.batch
    if rows < 2 or batch < 41:
        raise InputError("--rows, --batch: expected at least 2 rows and a batch of at least 41")
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator)).to(device)
    labels = (torch.arange(rows) // 4).to(device)
    loss = TripletSemiHardLoss()
    anchors = x[:batch] if batch <= rows else x.repeat(-(-batch // rows), 1)[:batch]
    anchors = anchors.clone().requires_grad_()
    classes = (torch.arange(len(anchors)) // 40).to(device)
    block = min(rows, 16_384)

    def step() -> None:
        anchors.grad = None
        loss(anchors, classes).backward()

    radius = max(0.0, 2.0 - 8.0 / math.sqrt(dim))  # far below what two random rows have
    work: list[tuple[str, int, Callable[[], Any]]] = [
        (f"triplet loss with its gradient, N={len(anchors)}", len(anchors) ** 2, step),
        ("the product beside it", len(anchors) ** 2, lambda: anchors.detach() @ anchors.detach().T),
        (
            "histogram of distances",
            block * (block - 1) // 2,
            lambda: distance_histogram(x[:block], labels[:block]),
        ),
        ("10 nearest neighbours", block**2, lambda: nearest(x[:block], min(10, block - 1))),
        ("pairs within a radius", block * (block - 1) // 2, lambda: within(x[:block], radius)),
        ("the product beside these", block**2, lambda: x[:block] @ x[:block].T),
    ]
    measured: list[dict[str, Any]] = []
    with Counting("measuring", make_console(stderr=True)) as progress:
        for number, (name, pairs, call) in enumerate(work):
            progress(number, len(work))
            seconds = _median(call, device, options.repeats)
            measured.append(
                {
                    "what": name,
                    "pairs": pairs,
                    "seconds": seconds,
                    "pairs_per_second": pairs / seconds,
                }
            )
    info = build_info()
    figures = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "cpu_instruction_set": info["cpu_instruction_set"],
        "rows": rows,
        "dim": dim,
        "measured": measured,
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    table = Table(title=f"{block:,} embeddings of {dim} numbers on {device}")
    for column in ("", "time", "pairs/s"):
        table.add_column(column, justify="right" if column else "left")
    for one in measured:
        table.add_row(
            str(one["what"]),
            f"{1e3 * one['seconds']:,.1f} ms",
            f"{one['pairs_per_second'] / 1e9:,.2f} G",
        )
    console = make_console()
    console.print(table)
    console.print(
        f"{counted(torch.get_num_threads(), 'thread')}, {figures['cpu_instruction_set']} kernels, "
        f"float32; medians of {options.repeats}"
    )


def _median(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    def whole() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return statistics.median(timeit.repeat(whole, number=1, repeat=1 + repeats)[1:])
