"""Chooses where decoded images are: in memory, in the cache, or nowhere till a batch needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import in_flags
from facenet_ext.common.launch import cores, is_first
from facenet_ext.common.plain_warnings import tell_warnings
from facenet_ext.common.text import bytes_in_words, counted
from facenet_ext.data import cache
from facenet_ext.data.decoding import Geometry, LazyImages, MappedImages, OnTheFly, in_memory
from facenet_ext.data.image_set import ImageSet, Subset
from facenet_ext.data.loader import how_many_workers
from facenet_ext.data.unreadable import Unreadable, tell_left_out

__all__ = ["Placed", "Room", "place"]


class Room(NamedTuple):
    """Where decoded images may be, and who decodes them.

    Attributes:
        memory: GiB of memory.
        cache: the folder of the cache, or None.
        cache_size: GiB that the cache may take.
        workers: processes that make batches ahead; None for as many as are useful.
    """

    memory: float
    cache: Path | None = None
    cache_size: float = 0.0
    workers: int | None = None


class Placed(NamedTuple):
    """The decoded images of a set.

    Attributes:
        values: ``[M, C, H, W]`` uint8.
        rows: ``[M]`` which images of the set they are: all but those known to be unreadable.
    """

    values: Tensor | LazyImages
    rows: NDArray[np.int64]


def place(
    sets: Sequence[ImageSet], geometry: Geometry, room: Room, console: Console
) -> list[Placed]:
    """Decode sets, or make ready to decode them, where there is room; and tell where that is.

    In memory, and in the cache, images that cannot be read are left out.

    Args:
        sets: of one training.
        geometry: what to decode to.
        room: where images may be.
        console: where progress, the choice and unreadable images are shown.

    Returns:
        The images of each set.

    Raises:
        InputError: too many images are unreadable, or the cache cannot be written to.
    """
    count = sum(map(len, sets))
    size = geometry.bytes_of(count)

    def tell(line: str) -> None:
        console.print(in_flags(line), soft_wrap=True, markup=False, highlight=False)

    def tell_found(line: str) -> None:
        """Print of an image that this process alone has found, also where others print."""
        shown = console if is_first() else make_console(stderr=True)
        shown.print(line, soft_wrap=True, markup=False, highlight=False)

    placing = _Placing(sets, geometry, room, console, tell, Unreadable(count, tell_found))
    why = ""
    if room.cache is not None:
        lacking = placing.lacks_room(room.cache)
        if lacking is None:
            return placing.in_cache(room.cache)
        why = f"; {lacking}"
    if size <= room.memory * 2**30:
        tell(f"images: {bytes_in_words(size)} decoded, in memory{why}")
        return placing.in_memory()
    workers = how_many_workers(room.workers, cores())
    by = f", ahead of it by {counted(workers, 'worker')}" if workers else ""
    tell(
        f"images: decoded when a batch needs them{by}; all {count:,} are {bytes_in_words(size)} "
        f"decoded, and `memory` is {room.memory:g} GiB{why or '; `cache` would keep them'}"
    )
    return placing.on_the_fly(workers)


class _Placing(NamedTuple):
    sets: Sequence[ImageSet]
    geometry: Geometry
    room: Room
    console: Console
    tell: Callable[[str], None]
    unreadable: Unreadable

    def in_memory(self) -> list[Placed]:
        decoded, errors, done = [], list[str](), 0
        count = sum(map(len, self.sets))
        with tell_warnings(self.tell), Counting("decoding images", self.console) as progress:
            for images in self.sets:
                pixels, wrong = in_memory(
                    images, self.geometry, functools.partial(_advance, progress, done, count)
                )
                done += len(images)
                errors += [wrong[row] for row in sorted(wrong)]
                decoded.append((pixels, _without(len(images), wrong)))
        tell_left_out(errors, count, self.tell)
        return [
            Placed(pixels if len(rows) == len(pixels) else pixels[rows], rows)
            for pixels, rows in decoded
        ]

    def lacks_room(self, folder: Path) -> str | None:
        """Return why the images cannot be in the cache; None if they can, or are there."""
        bases = {base.fingerprint: base for base, _ in map(_base, self.sets)}.values()
        entries = {cache.entry_of(folder, base, self.geometry): base for base in bases}
        missing = sum(
            self.geometry.bytes_of(len(base))
            for entry, base in entries.items()
            if cache.find(entry, base, self.geometry) is None
        )
        left = cache.room(folder, int(self.room.cache_size * 2**30), set(entries))
        if missing <= left:
            return None
        return (
            f"{bytes_in_words(missing)} do not fit into `cache` {folder}, where "
            f"{bytes_in_words(max(0, left))} are left: see `cache_size`"
        )

    def in_cache(self, folder: Path) -> list[Placed]:
        count, errors, placed = sum(map(len, self.sets)), list[str](), list[Placed]()
        workers = how_many_workers(self.room.workers, cores())
        kept: dict[str, cache.Entry] = {}
        for images in self.sets:
            base, rows = _base(images)
            name = base.fingerprint
            if name not in kept:
                with (
                    tell_warnings(self.tell),
                    Counting("decoding images", self.console) as progress,
                ):
                    kept[name] = cache.kept(folder, base, self.geometry, self.tell, progress)
                self.tell(
                    f"images: {bytes_in_words(self.geometry.bytes_of(len(base)))} decoded, "
                    f"in {kept[name].path.parent}"
                )
            wrong = {
                place: kept[name].errors[row]
                for place, row in enumerate(rows.tolist())
                if row in kept[name].errors
            }
            errors += wrong.values()
            chosen = _without(len(rows), wrong)
            fingerprint = f"{images.fingerprint} {self.geometry.size} {self.geometry.channels}"
            values = MappedImages(
                kept[name].path, rows[chosen], fingerprint, workers, self.unreadable
            )
            placed.append(Placed(values, chosen))
        tell_left_out(errors, count, self.tell)
        return placed

    def on_the_fly(self, workers: int) -> list[Placed]:
        return [
            Placed(
                OnTheFly(images, self.geometry, workers, self.unreadable), np.arange(len(images))
            )
            for images in self.sets
        ]


def _advance(
    progress: Callable[[int, int], None], before: int, count: int, done: int, of_set: int
) -> None:
    """Tell how many images of all sets are done."""
    progress(before + done, count)


def _base(images: ImageSet) -> tuple[ImageSet, NDArray[np.int64]]:
    """Return the set that a subset is of, and its rows there."""
    if not isinstance(images, Subset):
        return images, np.arange(len(images))
    base, rows = _base(images.images)
    return base, rows[images.rows]


def _without(count: int, errors: dict[int, str]) -> NDArray[np.int64]:
    return np.delete(np.arange(count), sorted(errors))
