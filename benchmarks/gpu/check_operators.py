"""Every operator on small batches, against the CPU: `pytest benchmarks/gpu/check_operators.py`.

On integers, whose distances are the same on every device. compute-sanitizer runs these calls too:
between them they take both main loops, by products and by differences, at sizes that fill no tile.
"""

import os

import pytest
import torch
from torch import Tensor

import facenet_ext
from facenet_ext.all_pairs import distance_histogram
from facenet_ext.neighbours import nearest, within

DEVICE = os.environ.get("FACENET_TEST_DEVICE", "cuda")
TYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
SIZES = ((70, 33), (300, 128), (5, 7)) if DEVICE == "cuda" else ((5, 7),)
# Cosines are not exact, so their rule is one whose loss a tie does not change.
RULES = (
    {"positives": "all", "negatives": "semihard", "distance": "sqeuclidean"},
    {"positives": "hardest", "negatives": "hardest", "distance": "cosine"},
    {"positives": "easiest", "negatives": "semihard", "distance": "euclidean"},
    {"positives": "hardest", "negatives": "hardest", "distance": "sqeuclidean"},
)
MARGIN = 2.0


class Batch:
    """Anchors x with labels y, and a bank of c with labels z."""

    def __init__(self, size: tuple[int, int], dtype: torch.dtype, rule: dict[str, str]) -> None:
        n, dim = size
        generator = torch.Generator().manual_seed(n)
        self.rule, self.distance = rule, rule["distance"]
        self.exact = self.distance != "cosine"
        # Far off, distances come from differences.
        offset = 1000 if rule["positives"] == "hardest" and self.exact else 0
        integers = torch.randint(-3, 4, (n + n // 2 + 3, dim), generator=generator) + offset
        self.x, self.c = integers.to(dtype).split([n, n // 2 + 3])
        self.y, self.z = (torch.arange(len(rows)) % (n // 4 + 1) for rows in (self.x, self.c))

    def to(self, device: str) -> "Batch":
        for name in "xcyz":
            setattr(self, name, getattr(self, name).detach().to(device))
        self.x.requires_grad_()
        self.c.requires_grad_()
        return self

    def with_gradients(self, loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(loss, inputs)
        return (loss.detach(), *(gradients if self.exact else ()))

    def mined(self, **options: object) -> Tensor:
        return facenet_ext.mined_triplet_loss(self.x, self.y, MARGIN, **self.rule, **options)

    def of_given_triplets(self) -> tuple[Tensor, ...]:
        triplets = facenet_ext.select_triplets(self.x, self.y, **self.rule)
        loss = facenet_ext.triplet_loss(self.x, triplets, MARGIN, distance=self.distance)
        return (*(triplets if self.exact else ()), *self.with_gradients(loss, self.x))

    def over_all_triplets(self) -> Tensor:
        return facenet_ext.triplet_margin_loss(self.x, self.y, MARGIN, distance=self.distance)

    def softmax(self) -> tuple[Tensor, ...]:
        loss = facenet_ext.supcon_loss(self.x, self.y, ref_emb=self.c, ref_labels=self.z)
        return (loss.detach(), *torch.autograd.grad(loss, (self.x, self.c)))

    def nearest(self) -> tuple[Tensor, ...]:
        closest = nearest(self.x.detach(), 3, ref_emb=self.c.detach(), distance=self.distance)
        return tuple(closest) if self.exact else (closest.distances,)

    def pairs(self) -> tuple[Tensor, ...]:
        """Of a radius, and counted by distance."""
        if not self.exact:
            return ()
        given = {"ref_emb": self.c.detach(), "distance": self.distance}
        close = within(self.x.detach(), 40.0, **given)
        counts = distance_histogram(
            self.x.detach(), self.y, low=1, high=1000, ref_labels=self.z, **given
        )
        return (*close, counts.same, counts.different)


CALLS = {
    "mined": lambda b: b.with_gradients(b.mined(), b.x),
    "mined, max_per_class": lambda b: b.with_gradients(b.mined(max_per_class=8), b.x),
    "mined from a bank": lambda b: b.with_gradients(b.mined(ref_emb=b.c, ref_labels=b.z), b.x, b.c),
    "given": Batch.of_given_triplets,
    "all": lambda b: b.with_gradients(b.over_all_triplets(), b.x),
    "softmax": Batch.softmax,
    "nearest": Batch.nearest,
    "pairs": Batch.pairs,
    "distances": lambda b: (facenet_ext.pairwise_squared_distance(b.x).detach(),),
    "distances to others": lambda b: (facenet_ext.pairwise_squared_distance(b.x, b.c).detach(),),
}


# The most telling first: there may be no time for the last.
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_cpus(
    size: tuple[int, int], dtype: torch.dtype, rule: dict[str, str], call: str
) -> None:
    batch = Batch(size, dtype, rule)
    there = [output.cpu() for output in CALLS[call](batch.to(DEVICE))]
    here = CALLS[call](batch.to("cpu"))
    for actual, expected in zip(there, here, strict=True):
        # One rounding of a gradient in bfloat16 may go either way.
        torch.testing.assert_close(actual, expected, rtol=2**-7, atol=1e-4)
