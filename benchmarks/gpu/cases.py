"""The batches that are measured on a GPU."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True, order=True)
class Case:
    """N rows in D dimensions, so many of each label; the last class may be smaller."""

    n: int
    dim: int
    per_class: int
    dtype: str

    def __str__(self) -> str:
        classes = f", {self.per_class} per class" if self.per_class > 1 else ""
        return f"N={self.n} D={self.dim} {self.dtype}{classes}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def row_bytes(self) -> int:
        return self.n * self.dim * BYTES[self.dtype]

    @property
    def input_bytes(self) -> int:
        """Embeddings and labels."""
        return self.row_bytes + 8 * self.n

    def batch(self, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Rows on the unit sphere and shuffled labels, made on the device."""
        generator = torch.Generator(device=device).manual_seed(1000 * self.n + seed)
        rows = torch.randn(self.n, self.dim, generator=generator, device=device)
        order = torch.randperm(self.n, generator=generator, device=device)
        labels = torch.arange(self.n, device=device) // self.per_class
        rows = torch.nn.functional.normalize(rows, dim=1).to(getattr(torch, self.dtype))
        return rows, labels[order]


# The paper's batch: 1,800 with 40 per face.
PAPER = Case(1800, 128, 40, "float32")
PAPER_BF16 = Case(1800, 128, 40, "bfloat16")
LARGE = (
    Case(16384, 128, 4, "bfloat16"),
    Case(65536, 128, 4, "bfloat16"),
    Case(16384, 128, 40, "bfloat16"),
    Case(65536, 128, 40, "bfloat16"),
    Case(65536, 512, 4, "bfloat16"),
    Case(16384, 128, 4, "float32"),
)
# A class size of 1: distances read no labels.
DISTANCES = tuple(
    Case(n, 128, 1, dtype) for n in (8192, 16384) for dtype in ("float32", "bfloat16")
)
WEIGHED = Case(65536, 128, 4, "bfloat16")
# The rest: curves over N, other widths and class sizes.
SWEEP = tuple(
    Case(n, 128, 4, dtype)
    for dtype in ("float32", "bfloat16")
    for n in (256, 1024, 4096, 16384, 65536)
)
WIDTHS = tuple(Case(16384, dim, 4, "bfloat16") for dim in (64, 256, 512, 1024))
