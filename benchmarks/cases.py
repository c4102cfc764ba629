"""The batches that are measured: N rows of a class size, float32, D = 128."""

from dataclasses import dataclass

import torch
from torch import Tensor

DIMENSIONS = 128
MARGIN = 0.2


@dataclass(frozen=True, order=True)
class Case:
    """N rows with ``per_class`` of each label; the last class may be smaller."""

    n: int
    per_class: int

    def __str__(self) -> str:
        return f"N={self.n}" + (f", {self.per_class} per class" if self.per_class > 1 else "")

    @property
    def triplets(self) -> int:
        """How many (anchor, positive, negative) there are, about."""
        return self.n * (self.per_class - 1) * (self.n - self.per_class)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Embeddings on the unit sphere ``[N, D]``, which ask for a gradient, and labels ``[N]``.

        Labels are shuffled: rows of one class do not lie together, as in a real batch.
        """
        generator = torch.Generator().manual_seed(self.n)
        rows = torch.randn(self.n, DIMENSIONS, generator=generator)
        labels = torch.arange(self.n) // self.per_class
        labels = labels[torch.randperm(self.n, generator=generator)]
        return torch.nn.functional.normalize(rows, dim=1).requires_grad_(), labels


# Batches as they occur, from a small P x K batch to the paper's 1800 with 40 per face and beyond.
NAMED = (
    Case(64, 8),
    Case(512, 40),
    Case(1024, 8),
    Case(1024, 40),
    Case(1800, 40),
    Case(8192, 4),
    Case(16384, 4),
)
# The curves of the pictures, all at one class size.
SWEEP = tuple(Case(n, 4) for n in (256, 1024, 2048, 4096, 8192, 16384))

TIMED = tuple(sorted({*NAMED, *SWEEP}))
# Below 1024 rows a batch's memory is lost in the noise of the allocator.
WEIGHED = (Case(1800, 40), *(case for case in SWEEP if case.n >= 1024))

QUICK_N = 1024


def within(cases: tuple[Case, ...], quick: bool) -> tuple[Case, ...]:
    """All of the cases, or the small ones."""
    return tuple(case for case in cases if not quick or case.n <= QUICK_N)
