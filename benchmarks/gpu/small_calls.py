"""A few small calls of every operator, for a tool that makes each a hundred times slower.

    python -m benchmarks.gpu.small_calls END

until END, in seconds since 1970.
Between them they take both main loops, by products and by differences, at sizes that fill no tile.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu import records

TYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
SIZES = ((70, 33), (300, 128), (5, 7))
RULES = (("all", "semihard"), ("hardest", "hardest"), ("easiest", "semihard"))


def calls(device: str) -> Iterator[Callable[[], object]]:
    """The most telling first: there may be no time for the last."""
    import facenet_ext

    generator = torch.Generator().manual_seed(0)
    distances = itertools.cycle(("sqeuclidean", "euclidean", "cosine"))
    bounds = itertools.cycle((None, 8))
    for (n, dim), dtype, rule in itertools.product(SIZES, TYPES, RULES):
        offset = 1e3 if rule[0] == "hardest" else 0.0  # far off, distances come from differences
        x = (torch.randn(n, dim, generator=generator) + offset).to(device, dtype)
        c = (torch.randn(n // 2 + 3, dim, generator=generator) + offset).to(device, dtype)
        y = (torch.arange(n) % (n // 4 + 1)).to(device)
        z = (torch.arange(len(c)) % (n // 4 + 1)).to(device)
        x.requires_grad_()
        c.requires_grad_()
        options = {"positives": rule[0], "negatives": rule[1], "distance": next(distances)}
        bound = next(bounds)

        def mined(
            x: torch.Tensor = x,
            y: torch.Tensor = y,
            bound: int | None = bound,
            options: dict[str, str] = options,
            **bank: torch.Tensor,
        ) -> None:
            facenet_ext.mined_triplet_loss(x, y, max_per_class=bound, **options, **bank).backward()

        def apart(
            x: torch.Tensor = x, y: torch.Tensor = y, options: dict[str, str] = options
        ) -> None:
            triplets = facenet_ext.select_triplets(x, y, **options)
            facenet_ext.triplet_loss(x, triplets, distance=options["distance"]).backward()

        yield mined
        yield apart
        yield lambda mined=mined, c=c, z=z: mined(ref_emb=c, ref_labels=z)
        yield lambda x=x: facenet_ext.pairwise_squared_distance(x.detach())
        yield lambda x=x, c=c: facenet_ext.pairwise_squared_distance(x.detach(), c.detach())


def run(device: str, end: float) -> int:
    """How many calls were made: one at least, none begun after `end`."""
    made = 0
    for call in calls(device):
        if made and time.time() > end:
            break
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        made += 1
    return made


if __name__ == "__main__":
    records.write("small_calls", made=run("cuda", float(sys.argv[1])))
