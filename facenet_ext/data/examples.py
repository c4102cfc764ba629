"""Images or features in memory, with their labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from facenet_ext.common.text import counted

__all__ = ["Examples"]


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Images or features with their labels, cut into batches by position.

    Args:
        values: ``[N, C, H, W]`` uint8 images, or ``[N, D]`` or ``[N, C, L]`` float32 features.
        labels: ``[N]`` int64.
        names: what to call each in a picture; by default its label.
    """

    def __init__(self, values: Tensor, labels: Tensor, names: list[str] | None = None) -> None:
        self.values = values
        self.labels = labels
        self.names = names if names is not None else [str(label) for label in labels.tolist()]

    @property
    def are_images(self) -> bool:
        """Whether the values are images, which can be shown and augmented, not features."""
        return self.values.dtype == torch.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return tuple(self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.values[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the values [B, ...] and labels [B] of a whole batch at once."""
        rows = torch.tensor(indices)
        return self.values[rows], self.labels[rows]

    def __repr__(self) -> str:
        identities = len(set(self.labels.tolist()))
        kind = "image" if self.are_images else "row of features"
        return f"{counted(len(self), kind)} of {counted(identities, 'identity')}"
