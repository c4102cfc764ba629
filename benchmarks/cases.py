"""The batches that are measured: N rows of a class size, by default float32 with D = 128."""

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
    dim: int = DIMENSIONS
    dtype: str = "float32"

    def __str__(self) -> str:
        parts = [f"N={self.n}"]
        parts += [f"D={self.dim}"] if self.dim != DIMENSIONS else []
        parts += [self.dtype] if self.dtype != "float32" else []
        parts += [f"{self.per_class} per class"] if self.per_class > 1 else []
        return ", ".join(parts)

    @property
    def row_bytes(self) -> int:
        return self.n * self.dim * getattr(torch, self.dtype).itemsize

    @property
    def input_bytes(self) -> int:
        """Embeddings, and labels of 8 bytes."""
        return self.row_bytes + 8 * self.n

    @property
    def triplets(self) -> int:
        """About how many (anchor, positive, negative) there are."""
        return self.n * (self.per_class - 1) * (self.n - self.per_class)

    def batch(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Embeddings on the unit sphere ``[N, D]``, which ask for a gradient, and labels ``[N]``.

        Labels are shuffled: rows of one class do not lie together, as in a real batch.
        """
        generator = torch.Generator(device).manual_seed(self.n)
        rows = torch.randn(self.n, self.dim, generator=generator, device=device)
        labels = torch.arange(self.n, device=device) // self.per_class
        labels = labels[torch.randperm(self.n, generator=generator, device=device)]
        rows = torch.nn.functional.normalize(rows, dim=1).to(getattr(torch, self.dtype))
        return rows.requires_grad_(), labels


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
# Whose memory is measured. Below 1024 rows it is lost in the noise of the allocator.
IN_MEMORY = (Case(1800, 40), *(case for case in SWEEP if case.n >= 1024))

# What only a GPU measures. The paper's batch is 1800 with 40 per face.
PAPER = Case(1800, 40)
LARGE = (
    Case(16384, 4, dtype="bfloat16"),
    Case(65536, 4, dtype="bfloat16"),
    Case(16384, 40, dtype="bfloat16"),
    Case(65536, 40, dtype="bfloat16"),
    Case(65536, 4, 512, "bfloat16"),
    Case(16384, 4),
)
# A class size of 1: distances read no labels.
SQUARES = tuple(Case(n, 1, dtype=dtype) for n in (8192, 16384) for dtype in ("float32", "bfloat16"))
# Curves over N and over the width.
CURVES = (
    *(
        Case(n, 4, dtype=dtype)
        for dtype in ("float32", "bfloat16")
        for n in (256, 1024, 4096, 16384, 65536)
    ),
    *(Case(16384, 4, dim, "bfloat16") for dim in (64, 256, 512, 1024)),
)

QUICK_N = 1024


def within(cases: tuple[Case, ...], quick: bool) -> tuple[Case, ...]:
    """The cases, or if ``quick`` the small ones among them."""
    return tuple(case for case in cases if not quick or case.n <= QUICK_N)
