"""``facenet bench``: what this machine does with the kernels and a network."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.table import Table

from facenet_ext import TripletSemiHardLoss, build_info
from facenet_ext.all_pairs import distance_histogram
from facenet_ext.commands.command_line import make_parser, run
from facenet_ext.commands.devices import find_device
from facenet_ext.neighbours import nearest, within
from facenet_ext.train.errors import InputError
from facenet_ext.train.progress import Counting

__all__ = ["build_parser", "main"]


_MOST_THREADS = 1024


def main(argv: Sequence[str] | None = None, prog: str = "facenet bench") -> int:
    """Run the command and return its exit status."""
    return run(build_parser(prog), argv, _bench)


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Measure the kernels on this machine, each beside the matrix product of the same pairs: "
        "medians, in one run.",
        f"{prog}\n{prog} --rows 50000 --dim 256 --threads 4\n{prog} --device cuda --json",
    )
    parser.add_argument("--rows", type=PositiveInt, default=16_384, help="embeddings")
    parser.add_argument("--dim", type=PositiveInt, default=128, help="numbers of an embedding")
    parser.add_argument(
        "--batch", type=PositiveInt, default=1800, help="of the loss, 40 of each identity"
    )
    parser.add_argument("--repeats", type=PositiveInt, default=5, help="of each measurement")
    parser.add_argument("--threads", type=PositiveInt | None, default=None, help="of the CPU")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser


def _bench(found: Any) -> None:
    device = find_device(found.device)
    if found.threads is not None:
        if found.threads > _MOST_THREADS:
            raise InputError(f"--threads {found.threads}: expected at most {_MOST_THREADS}")
        torch.set_num_threads(int(found.threads))
    rows, dim, batch = int(found.rows), int(found.dim), int(found.batch)
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
    with Counting("measuring", Console(stderr=True)) as progress:
        for number, (name, pairs, call) in enumerate(work):
            progress(number, len(work))
            seconds = _median(call, device, int(found.repeats))
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
    if found.json:
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
    console = Console()
    console.print(table)
    console.print(
        f"{figures['threads']} threads, {figures['cpu_instruction_set']} kernels, float32; medians "
        f"of {found.repeats}"
    )


def _median(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
