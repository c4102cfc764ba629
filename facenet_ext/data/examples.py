"""Images or features with their labels, in memory or where they are made when needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from facenet_ext.common.text import counted, printable
from facenet_ext.data.decoding import LazyImages
from facenet_ext.data.image_set import ImageSet
from facenet_ext.data.loader import Batch, batches

__all__ = ["Examples", "ImageNames"]


class Examples:
    """Images or features with their labels, cut into batches by position.

    Args:
        values: ``[N, C, H, W]`` uint8 images, or ``[N, D]`` or ``[N, C, L]`` float32 features.
        labels: ``[N]`` int64.
        names: what to call each in a picture; by default its label.
    """

    def __init__(
        self, values: Tensor | LazyImages, labels: Tensor, names: Sequence[str] | None = None
    ) -> None:
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
        (batch,) = self.batches([indices])
        return batch.values, batch.labels

    def batches(
        self, parts: Iterable[Sequence[int]], pin: bool = False, copy: bool = True
    ) -> Iterator[Batch]:
        """Yield batches: see :func:`facenet_ext.data.loader.batches`."""
        return batches(self, parts, pin, copy)

    def __repr__(self) -> str:
        identities = len(torch.unique(self.labels))
        kind = "image" if self.are_images else "row of features"
        return f"{counted(len(self), kind)} of {counted(identities, 'identity')}"


class ImageNames(Sequence[str]):
    """What to call the images of a set in a picture.

    Args:
        images: the set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return printable(self.images.name(row))
