"""What every image set offers, whatever the format of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageSet", "Readable", "Subset"]


class Readable(Protocol):
    """What has encoded images to read, one by one in any order.

    Attributes:
        root: the folder or file that they are in.
    """

    @property
    def root(self) -> Path:
        """See above."""
        ...

    def read(self, row: int) -> bytes:
        """Return the content of an image's file, as it was encoded.

        Raises:
            InputError: the record is damaged; the message names it.
        """
        ...

    def name(self, row: int) -> str:
        """Return what messages and pictures call an image."""
        ...


class ImageSet(Readable, Protocol):
    """Encoded images with their identities, read one by one in any order.

    An image set pickles in a few hundred bytes, whatever its size: a worker opens the files and
    maps the index again.

    Attributes:
        kind: the format, as ``facenet data`` shows it.
        root: the folder or file that the set was opened from.
        labels: ``[N]`` int64, read-only, perhaps mapped: the identity of each image.
        identities: K names; ``labels`` are positions among them.
        fingerprint: a hash that changes where an image, a label or a name does.
    """

    kind: str
    root: Path
    labels: NDArray[np.int64]
    identities: Sequence[str]

    @property
    def fingerprint(self) -> str:
        """The hash: see above."""
        ...

    def __len__(self) -> int: ...


class Subset:
    """Some images of a set, in a given order; a set itself.

    Args:
        images: a set.
        rows: ``[M]`` int64, positions in it.
    """

    def __init__(self, images: ImageSet, rows: NDArray[np.int64]) -> None:
        self.images, self.rows = images, rows
        self.kind, self.root = images.kind, images.root
        self.labels = images.labels[rows]
        self.identities = images.identities

    @property
    def fingerprint(self) -> str:
        """The set's fingerprint, with the rows."""
        rows = hashlib.sha256(np.ascontiguousarray(self.rows).tobytes())
        return f"{self.images.fingerprint}-{rows.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes:
        """Return the content of an image's file."""
        return self.images.read(int(self.rows[row]))

    def name(self, row: int) -> str:
        """Return what messages and pictures call an image."""
        return self.images.name(int(self.rows[row]))
