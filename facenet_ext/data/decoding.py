"""Decodes images: all into memory, all into a file, or those of a batch when it needs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.launch import cores
from facenet_ext.data.image_set import ImageSet
from facenet_ext.data.images import UnreadableImageError, decode_row
from facenet_ext.data.unreadable import Unreadable, most_unreadable

__all__ = [
    "DecodedRows",
    "Geometry",
    "LazyImages",
    "MappedImages",
    "OnTheFly",
    "decode_blocks",
    "in_memory",
]

BLOCK = 1024
_TASK = 16
"""Images of a block, and of a part of it that one thread decodes."""


class Geometry(NamedTuple):
    """What images are decoded to.

    Attributes:
        size: height and width, pixels.
        channels: 1 for grey, 3 for colour.
    """

    size: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, self.size, self.size

    def bytes_of(self, count: int) -> int:
        """How much so many images take."""
        return count * math.prod(self.shape)


def decode_blocks(
    images: ImageSet, geometry: Geometry, begin: int = 0
) -> Iterator[tuple[int, NDArray[np.uint8], dict[int, str]]]:
    """Decode a set from a row on, block by block, by as many threads as there are cores.

    Args:
        images: the set.
        geometry: what to decode to.
        begin: the first row.

    Yields:
        The first row of a block, its images ``[M, C, H, W]``, and by row what is wrong with those
        that cannot be read, which are black.
    """

    def decode_some(out: NDArray[np.uint8], first: int) -> dict[int, str]:
        errors = {}
        for place in range(len(out)):
            error = _decode_into(out[place], images, first + place, geometry)
            if error is not None:
                errors[first + place] = error
        return errors

    def start(first: int) -> tuple[NDArray[np.uint8], list[Future[dict[int, str]]]]:
        out = np.zeros((min(BLOCK, len(images) - first), *geometry.shape), np.uint8)
        parts = range(0, len(out), _TASK)
        return out, [pool.submit(decode_some, out[at : at + _TASK], first + at) for at in parts]

    # simplejpeg and Pillow decode outside Python's lock.
    with ThreadPoolExecutor(cores()) as pool:
        following = start(begin) if begin < len(images) else None
        while following is not None:
            out, parts = following
            end = begin + len(out)
            following = start(end) if end < len(images) else None  # while this one is used
            errors: dict[int, str] = {}
            for part in parts:
                errors |= part.result()
            yield begin, out, errors
            begin = end


def _decode_into(
    out: NDArray[np.uint8], images: ImageSet, row: int, geometry: Geometry
) -> str | None:
    """Decode an image into an array [C, H, W]; return what is wrong where it cannot be read."""
    try:
        out[:] = decode_row(images, row, *geometry).transpose(2, 0, 1)
    except UnreadableImageError as error:
        return str(error)
    return None


class DecodedRows(NamedTuple):
    """What was decoded for some rows.

    Attributes:
        pixels: ``[B, C, H, W]`` uint8.
        rows: ``[B]`` int64, the rows of these images. Where the image that was asked for cannot be
            read, another one takes its place.
        errors: by name, what is wrong with images that cannot be read.
    """

    pixels: Tensor
    rows: NDArray[np.int64]
    errors: dict[str, str]


class LazyImages:
    """Images ``[N, C, H, W]`` that are not in memory; indexed by rows it gives a tensor of them.

    Args:
        count: N.
        geometry: the size and the channels of an image.
        fingerprint: a hash that changes where an image does.
        workers: processes that make batches of them ahead of time.
        unreadable: tells of images that cannot be read.
    """

    dtype = torch.uint8

    def __init__(
        self,
        count: int,
        geometry: Geometry,
        fingerprint: str,
        workers: int,
        unreadable: Unreadable,
    ) -> None:
        self.geometry = geometry
        self.fingerprint = fingerprint
        self.workers = workers
        self.shape = (count, *geometry.shape)
        self._unreadable: Unreadable | None = unreadable

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_unreadable": None}  # workers print nothing

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | Sequence[int] | Tensor) -> Tensor:
        if isinstance(rows, int):
            return self[[rows]][0]
        decoded = self.read(rows.tolist() if isinstance(rows, Tensor) else list(rows))
        self.tell(decoded.errors)
        return decoded.pixels

    def read(self, rows: Sequence[int], out: Tensor | None = None) -> DecodedRows:
        """Return the images of some rows, and say nothing of those that cannot be read.

        Args:
            rows: B of them.
            out: ``[B, C, H, W]`` uint8, contiguous, to write the images to; None for a new one.
        """
        if out is None:
            out = torch.empty((len(rows), *self.geometry.shape), dtype=torch.uint8)
        return self._read_into(out, rows)

    def _read_into(self, out: Tensor, rows: Sequence[int]) -> DecodedRows:
        raise NotImplementedError

    def tell(self, errors: dict[str, str]) -> None:
        """Tell of images that cannot be read, each once."""
        if self._unreadable is not None:
            self._unreadable.add(errors)

    def say(self, line: str) -> None:
        """Print a line."""
        if self._unreadable is not None:
            self._unreadable.tell(line)


class MappedImages(LazyImages):
    """Images that lie decoded in a file, which all processes of the machine share.

    Args:
        path: an ``.npy`` of ``[M, C, H, W]`` uint8.
        rows: ``[N]`` int64, their rows in that file.
        fingerprint: see :class:`LazyImages`.
        workers: see there.
        unreadable: see there.
    """

    def __init__(
        self,
        path: Path,
        rows: NDArray[np.int64],
        fingerprint: str,
        workers: int,
        unreadable: Unreadable,
    ) -> None:
        self.path, self.rows = path, rows
        _, channels, size, _ = self._array.shape
        geometry = Geometry(size, channels)
        super().__init__(len(rows), geometry, fingerprint, workers, unreadable)

    @property
    def _array(self) -> NDArray[np.uint8]:
        mapped: NDArray[np.uint8] | None = self.__dict__.get("_mapped")
        if mapped is None:
            mapped = self._mapped = np.load(self.path, mmap_mode="r")
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_mapped", None)
        return state

    def _read_into(self, out: Tensor, rows: Sequence[int]) -> DecodedRows:
        chosen = np.asarray(rows, np.int64)
        np.take(self._array, self.rows[chosen], 0, out.numpy(), "clip")  # other modes would buffer
        return DecodedRows(out, chosen, {})


class OnTheFly(LazyImages):
    """Images of a set, decoded whenever they are asked for.

    Where an image cannot be read, the next image of its identity takes its place. The order is that
    of the set; after the last image of the identity comes its first. If no image of the identity
    can be read, the next image of the set takes the place. So the set alone decides which it is.

    Args:
        images: the set.
        geometry: what to decode to.
        workers: see :class:`LazyImages`.
        unreadable: tells of images that cannot be read.
    """

    def __init__(
        self, images: ImageSet, geometry: Geometry, workers: int, unreadable: Unreadable
    ) -> None:
        fingerprint = f"{images.fingerprint} {geometry.size} {geometry.channels}"
        super().__init__(len(images), geometry, fingerprint, workers, unreadable)
        self.images = images
        self._most = most_unreadable(unreadable.count)
        self._errors: dict[int, str] = {}

    def _read_into(self, out: Tensor, rows: Sequence[int]) -> DecodedRows:
        pixels, errors = out.numpy(), dict[str, str]()
        shown = [self._read(pixels[place], row, errors) for place, row in enumerate(rows)]
        return DecodedRows(out, np.array(shown, np.int64), errors)

    def _read(self, out: NDArray[np.uint8], row: int, errors: dict[str, str]) -> int:
        if self._try(out, row, errors):
            return row
        for other in self._others(row):
            if len(self._errors) > self._most:  # `Unreadable` will stop the run
                break
            if self._try(out, other, errors):
                return other
        out[:] = 0
        return row

    def _try(self, out: NDArray[np.uint8], row: int, errors: dict[str, str]) -> bool:
        error = self._errors.get(row) or _decode_into(out, self.images, row, self.geometry)
        if error is None:
            return True
        self._errors[row] = error
        errors[self.images.name(row)] = error
        return False

    def _others(self, row: int) -> Iterator[int]:
        """The rows that may take a row's place, the first choice first."""
        own = np.flatnonzero(self.images.labels == self.images.labels[row])
        at = int(np.searchsorted(own, row))
        yield from own[at + 1 :].tolist()
        yield from own[:at].tolist()
        yield from range(row + 1, len(self))
        yield from range(row)


def in_memory(
    images: ImageSet, geometry: Geometry, progress: Callable[[int, int], None]
) -> tuple[Tensor, dict[int, str]]:
    """Decode all images into memory.

    Args:
        images: the set.
        geometry: what to decode to.
        progress: told how many are done, and how many there are.

    Returns:
        ``[N, C, H, W]`` uint8, and by row what is wrong with those that cannot be read.
    """
    pixels = torch.empty((len(images), *geometry.shape), dtype=torch.uint8)
    errors: dict[int, str] = {}
    for first, block, wrong in decode_blocks(images, geometry):
        pixels[first : first + len(block)] = torch.from_numpy(block)
        errors |= wrong
        progress(first + len(block), len(images))
    return pixels, errors
