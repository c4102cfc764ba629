"""Listed images as an image set."""

from __future__ import annotations

from collections.abc import Sequence

from facenet_ext.common.text import number_names
from facenet_ext.data.image_list import ImageList

__all__ = ["ListedImages"]


class ListedImages:
    """The images of a list, a set: see :class:`facenet_ext.data.image_set.ImageSet`.

    Args:
        images: the list.
    """

    kind = "folder"

    def __init__(self, images: ImageList) -> None:
        self.images = images
        self.root = images.root
        names, self.labels = number_names(images.identities)
        self.identities: Sequence[str] = names

    @property
    def fingerprint(self) -> str:
        """A hash that changes where an image, a label or a name does."""
        return self.images.fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def read(self, row: int) -> bytes:
        """Return the content of an image's file."""
        return self.images.read(row)

    def name(self, row: int) -> str:
        """Return what messages and pictures call an image."""
        return self.images.ids[row]
