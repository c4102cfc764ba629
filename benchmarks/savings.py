"""What options that save memory save, and the time they take: `python -m benchmarks.savings`.

`chunk_rows=` of a loss that two processes share, and `--activation-checkpointing` of IResNet.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import resource
import statistics
import timeit
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import MARGIN
from benchmarks.plain_torch import Function
from benchmarks.processes import Team
from facenet_ext.common.console import make_console

_ROWS, _DIM = 8192, 128
_CHUNKS = (None, 8192, 4096, 2048, 1024)
_NETWORKS = ("iresnet50", "iresnet100")
_IMAGES, _SIZE = 4, 112
_REPEATS = 3


def _loss(kind: str, chunk_rows: int | None) -> Function:
    import facenet_ext
    from facenet_ext.distributed import DistributedLoss

    options = {"margin": MARGIN} if kind == "TripletSemiHardLoss" else {}
    loss = getattr(facenet_ext, kind)(**options)
    return DistributedLoss(loss, chunk_rows=chunk_rows)


def _median(call: Callable[[], object]) -> float:
    return statistics.median(timeit.repeat(call, number=1, repeat=_REPEATS))


def chunks(kind: str) -> Iterator[str]:
    """Lines: the time of a step of two processes, by the rows of a piece."""
    g = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(_ROWS, _DIM, generator=g))
    labels = torch.arange(_ROWS) // 4
    whole = 0.0
    for chunk_rows in _CHUNKS:
        team = Team(functools.partial(_loss, kind, chunk_rows), rows, labels)
        seconds = _median(team.step)
        whole = whole or seconds
        yield (
            f"  {kind}, chunk_rows={chunk_rows}: {seconds * 1e3:,.0f} ms a step, "
            f"{seconds / whole:.1f} of all rows at once"
        )


def _step(network: str, checkpointing: bool) -> tuple[float, float]:
    """Bytes that an image keeps between the forward and the backward; processor time of a step."""
    from facenet_ext.cli.train_options import parse
    from facenet_ext.train.module import EmbeddingModule

    torch.set_num_threads(1)
    arguments = ["--data", "images", "--model", network, "--channels", "3", "--precision"]
    arguments += ["32-true", "--image-size", str(_SIZE), "--input-size", str(_SIZE)]
    arguments += ["--members", "1", "--activation-checkpointing", str(checkpointing).lower()]
    options = parse(arguments, "benchmarks").options
    module = EmbeddingModule(options, (3, _SIZE, _SIZE), steps=1)
    size = options.data.input_size
    images = torch.randn(_IMAGES, 3, size, size).to(memory_format=torch.channels_last)

    def kept_by(count: int) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            embeddings = module.network(images[:count])
        del embeddings  # what it kept was counted as it was allocated
        return sum(event.self_cpu_memory_usage for event in profiled.key_averages())

    half = _IMAGES // 2
    kept = (kept_by(_IMAGES) - kept_by(half)) / half  # the weights' copies are in both
    seconds = []
    for _ in range(_REPEATS):
        used = resource.getrusage(resource.RUSAGE_SELF)
        module.network(images).sum().backward()
        now = resource.getrusage(resource.RUSAGE_SELF)
        seconds.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    return kept, statistics.median(seconds)


def activations(network: str) -> str:
    """A line: what activation checkpointing of a network saves and costs."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        (kept, seconds), (less, more) = pool.starmap(
            _step, [(network, False), (network, True)], chunksize=1
        )
    return (
        f"  {network}: an image keeps {less / 1e6:.0f} MB in place of {kept / 1e6:.0f} MB; "
        f"a step takes {more / seconds - 1:+.0%} of processor time"
    )


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.savings", description=__doc__, allow_abbrev=False
    ).parse_args()
    console = make_console(width=120)
    for kind in ("TripletSemiHardLoss", "TripletMarginLoss", "SupConLoss"):
        for line in chunks(kind):
            console.print(line, soft_wrap=True)
    for network in _NETWORKS:
        console.print(activations(network), soft_wrap=True)


if __name__ == "__main__":
    main()
