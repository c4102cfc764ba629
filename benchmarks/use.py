"""Measures the uses of a trained model: `python -m benchmarks.use`.

They are metrics over all pairs, neighbours, clusters and embedding, each measured beside what one
would write without this library. Embeddings are random, around a direction for each identity.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import ROOT, describe
from facenet_ext.all_pairs import distance_histogram, val_far_all_pairs
from facenet_ext.common.console import make_console
from facenet_ext.neighbours import nearest, within
from facenet_ext.recognition import ModelName, cluster, embed_images, list_tree

RESULTS = ROOT / "benchmarks" / "results" / "use.json"
_DIM = 128
_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Use:
    """One measurement: the seconds of `what` done by `by`, and how much of it per second."""

    what: str
    by: str
    seconds: float
    amount: float
    unit: str


def faces(count: int, per_identity: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random embeddings [count, 128] of length 1, and their identities."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) // per_identity
    centres = torch.randn(int(labels.max()) + 1, _DIM, generator=generator)
    rows = centres[labels] + 0.8 * torch.randn(count, _DIM, generator=generator)
    return torch.nn.functional.normalize(rows), labels


def torch_nearest(x: Tensor, gallery: Tensor, k: int) -> None:
    """The k closest by products, chunk by chunk: 2 - 2 cos for rows of length 1."""
    best = torch.empty(len(x), 0)
    for chunk in gallery.split(_CHUNK):
        closest = (x @ chunk.T).topk(k, dim=1).values
        best = torch.cat([best, closest], 1).topk(k, dim=1).values


def faiss_nearest(x: Tensor, gallery: Tensor, k: int) -> None:
    """The k closest by FAISS's exact index, which has the gallery already."""
    _faiss_index(gallery).search(x.numpy(), k)


@functools.cache
def _faiss_index(gallery: Tensor) -> Any:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(gallery.numpy())
    return index


def torch_within(x: Tensor, radius: float) -> int:
    """Pairs within a radius by products, chunk by chunk."""
    count = 0
    for i in range(0, len(x), _CHUNK):
        d = 2 - 2 * (x[i : i + _CHUNK] @ x[i:].T)
        rows, columns = (d <= radius).nonzero(as_tuple=True)
        count += int((columns > rows).sum())
    return count


def torch_counts(x: Tensor, labels: Tensor) -> Tensor:
    """A histogram of all pairs by products, chunk by chunk."""
    counts = torch.zeros(2, 1000)
    for i in range(0, len(x), _CHUNK):
        d = 2 - 2 * (x[i : i + _CHUNK] @ x[i:].T)
        same = labels[i : i + _CHUNK, None] == labels[i:]
        upper = torch.ones_like(same).triu(1)
        for kind, mask in enumerate((same & upper, ~same & upper)):
            counts[kind] += torch.histc(d[mask], 1000, 0, 4)
    return counts


def scipy_cluster(x: Tensor, threshold: float) -> None:
    """Average linkage of SciPy, on all distances."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    fcluster(linkage(pdist(x.double().numpy(), "sqeuclidean"), "average"), threshold, "distance")


def measure(quick: bool, tell: Callable[[str], None]) -> list[Use]:
    """Measure all uses, or if ``quick`` with a tenth of the rows."""
    scale = 10 if quick else 1
    uses: list[Use] = []

    def add(
        what: str, by: str, amount: float, unit: str, call: Callable[[], Any], times: int
    ) -> None:
        taken = statistics.median(timeit.repeat(call, number=1, repeat=times))
        use = Use(what, by, taken, amount, unit)
        uses.append(use)
        tell(f"  {what}, {by}: {use.seconds:.2f} s, {amount / use.seconds:,.0f} {unit}/s")

    x, labels = faces(100_000 // scale, 5)
    pairs = len(x) * (len(x) - 1) / 2
    what = f"VAL at FAR 1e-2, 1e-3 and 1e-4 over all pairs of {len(x):,}"
    add(
        what,
        "facenet_ext, exact to the pair",
        pairs,
        "pairs",
        lambda: val_far_all_pairs(x, labels, [1e-2, 1e-3, 1e-4]),
        1,
    )
    part, part_labels = x[: 20_000 // scale], labels[: 20_000 // scale]
    pairs = len(part) * (len(part) - 1) / 2
    what = f"histogram of all pairs of {len(part):,}"
    add(what, "facenet_ext", pairs, "pairs", lambda: distance_histogram(part, part_labels), 5)
    add(what, "torch, by products", pairs, "pairs", lambda: torch_counts(part, part_labels), 1)
    probes, _ = faces(2_000 // scale, 5, seed=1)
    pairs = len(probes) * len(x)
    for k in (1, 10, 100):
        what = f"{k} nearest of {len(x):,} to {len(probes):,}"
        faiss_nearest(probes, x, k)  # builds the index
        ours = functools.partial(nearest, probes, k, ref_emb=x)
        by_faiss = functools.partial(faiss_nearest, probes, x, k)
        by_torch = functools.partial(torch_nearest, probes, x, k)
        add(what, "facenet_ext", pairs, "pairs", ours, 5)
        add(what, "FAISS, IndexFlatL2", pairs, "pairs", by_faiss, 5)
        add(what, "torch, by products", pairs, "pairs", by_torch, 3)
    pairs = len(part) * (len(part) - 1) / 2
    what = f"pairs within a radius, of {len(part):,}"
    add(what, "facenet_ext", pairs, "pairs", lambda: within(part, 1.0), 5)
    add(what, "torch, by products", pairs, "pairs", lambda: torch_within(part, 1.0), 3)
    rows = part.numpy()
    what = f"clusters of {len(part):,}, average linkage"
    add(what, "facenet_ext", len(part), "faces", lambda: cluster(rows, 1.2), 3)
    add(what, "SciPy, with all distances", len(part), "faces", lambda: scipy_cluster(part, 1.2), 1)
    uses += _embedding(256 if quick else 1024, tell)
    return uses


def _embedding(count: int, tell: Callable[[str], None]) -> list[Use]:
    """Images of 96x96 pixels from JPEG files, with the defaults for faces."""
    from facenet_ext.cli.train_options import parse
    from facenet_ext.embedding.embedder import Embedder

    options = parse(["--preset", "faces", "--data", "images"], "benchmarks").options
    module = Embedder(options, (1, 96, 96)).eval()
    uses = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "images").mkdir()
        random = np.random.default_rng(0)
        for number in range(count):
            pixels = random.integers(0, 256, (12, 12), np.uint8)
            image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
            image.save(root / "images" / f"{number:05d}.jpg")
        images = list_tree(root / "images")
        for views, name in (("all", "all 18 views"), ("one", "one view")):
            model = ModelName("small", "0" * 64, views)
            start = time.perf_counter()
            embed_images(module, model, images, root / views)
            seconds = time.perf_counter() - start
            uses.append(Use(f"embedding of {count:,} images", name, seconds, count, "images"))
            tell(f"  {uses[-1].what}, {name}: {count / seconds:,.0f} images/s")
    return uses


def recorded() -> list[Use]:
    """The measurements of the last recorded run."""
    return [Use(**entry) for entry in json.loads(RESULTS.read_text())["measured"]]


def table() -> tuple[list[str], list[list[str]]]:
    """The recorded figures: columns and rows."""
    rows, shown = [], None
    for use in recorded():
        rate = use.amount / use.seconds
        told = f"{rate / 1e9:,.2f} G{use.unit}/s" if rate > 1e8 else f"{rate:,.0f} {use.unit}/s"
        taken = f"{use.seconds:.2f} s" if use.seconds < 10 else f"{use.seconds:.0f} s"
        rows.append(["" if use.what == shown else use.what, use.by, taken, told])
        shown = use.what
    return ["", "by", "takes", "that is"], rows


def main() -> None:
    """Measure, print and record."""
    from benchmarks import pages
    from facenet_ext.common.files import write_json

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.use", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small, and nothing recorded")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = make_console(width=120)
    if os.getloadavg()[0] > 0.3:
        console.print("The machine is busy: its load is above 0.3.", style="yellow")
    machine = describe(arguments.threads)
    uses = measure(arguments.quick, lambda line: console.print(line, soft_wrap=True))
    if not arguments.quick:
        measured = [dataclasses.asdict(use) for use in uses]
        write_json(RESULTS, {"machine": machine, "measured": measured})
        console.print(f"wrote {RESULTS.relative_to(ROOT)}", style="dim")
        pages.write(lambda line: console.print(line, style="dim"))


if __name__ == "__main__":
    main()
