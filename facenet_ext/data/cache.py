"""Decoded images in files that later runs, and the other processes of a machine, find again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from facenet_ext._files import lock
from facenet_ext.common.files import read_json, write_json, writing
from facenet_ext.data.decoding import Geometry, decode_blocks
from facenet_ext.data.image_set import ImageSet

__all__ = ["Entry", "entry_of", "kept", "room"]

_VERSION = 1
"""The version of the decoding. Raise it when the same file decodes to other pixels."""

_FACTS, _PROGRESS, _UNFINISHED = "images.json", "progress.json", "unfinished"
_WAIT = 0.2


class Entry(NamedTuple):
    """The decoded images of a set in the cache.

    Attributes:
        path: ``[N, C, H, W]`` uint8, an ``.npy``.
        errors: by row, what is wrong with images that cannot be read; they are black.
    """

    path: Path
    errors: dict[int, str]


def entry_of(cache: Path, images: ImageSet, geometry: Geometry) -> Path:
    """Return the folder in the cache for a set's images: images that differ have another folder."""
    about = [_VERSION, images.fingerprint, *geometry]
    return cache / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def room(cache: Path, limit: int, folders: Collection[Path]) -> int:
    """Return how many bytes some entries may take.

    That is what the other entries leave of the limit, and no more than the disk has free.

    Args:
        cache: the folder of the cache.
        limit: bytes that the cache may take.
        folders: the folders of the entries.
    """
    files = [file for file in cache.glob("*/*.*") if file.is_file()]
    sizes = {file: file.stat().st_blocks * 512 for file in files}
    own = sum(size for file, size in sizes.items() if file.parent in folders)
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free + own
    return min(limit - sum(sizes.values()) + own, free)


def find(folder: Path, images: ImageSet, geometry: Geometry) -> Entry | None:
    """Return a finished entry; None where there is none, or it is damaged."""
    facts, path = read_json(folder / _FACTS), folder / "images.npy"
    shape = (len(images), *geometry.shape)
    try:
        whole = path.stat().st_size == len(_header(shape)) + geometry.bytes_of(len(images))
    except OSError:
        return None
    if not whole or not isinstance(facts.get("unreadable"), dict):
        return None
    return Entry(path, {int(row): str(why) for row, why in facts["unreadable"].items()})


def kept(
    cache: Path,
    images: ImageSet,
    geometry: Geometry,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Entry:
    """Return the decoded images of a set from the cache; put them there if they are not.

    Of several processes that want them one decodes, and the others wait. A killed call is
    continued by the next one.

    Args:
        cache: the folder of the cache.
        images: the set.
        geometry: what to decode to.
        tell: prints a line.
        progress: told how many are done, and how many there are.

    Raises:
        InputError: the folder cannot be written to.
    """
    folder = entry_of(cache, images, geometry)
    if (entry := find(folder, images, geometry)) is not None:
        return entry
    with writing(cache, "`cache` "):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "lock", tell):
            if (entry := find(folder, images, geometry)) is None:
                entry = _decode(folder, images, geometry, progress)
    return entry


@contextlib.contextmanager
def _alone(file: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process has the lock, then take it."""
    waiting = False
    while True:
        with lock(file) as locked:
            if locked:
                yield
                return
        if not waiting:
            tell(f"waiting for another process, which decodes the images into {file.parent}")
            waiting = True
        time.sleep(_WAIT)


def _decode(
    folder: Path, images: ImageSet, geometry: Geometry, progress: Callable[[int, int], None]
) -> Entry:
    """Decode what is not decoded yet, block by block; at the end rename the file."""
    unfinished, path = folder / f"{_UNFINISHED}.npy", folder / "images.npy"
    header = _header((len(images), *geometry.shape))
    done, errors = _begun(folder, unfinished, header, geometry)
    with unfinished.open("r+b" if done else "w+b") as file:
        file.write(header)
        # Reserved at once: a full disk is an error now, and not the end of a process later.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, len(header) + geometry.bytes_of(len(images)))
        file.seek(len(header) + geometry.bytes_of(done))
        progress(done, len(images))
        for first, block, wrong in decode_blocks(images, geometry, done):
            file.write(block.data)
            errors |= wrong
            done = first + len(block)
            if done // _NOTED > first // _NOTED:
                file.flush()
                write_json(folder / _PROGRESS, {"done": done, "unreadable": errors})
            progress(done, len(images))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    about = {"set": str(images.root), "kind": images.kind, **geometry._asdict()}
    write_json(folder / _FACTS, about | {"images": len(images), "unreadable": errors})
    (folder / _PROGRESS).unlink(missing_ok=True)
    return Entry(path, errors)


_NOTED = 16_384
"""So often it is noted how many images are decoded."""


def _begun(
    folder: Path, unfinished: Path, header: bytes, geometry: Geometry
) -> tuple[int, dict[int, str]]:
    """Return how many images an earlier call has decoded, and which of them cannot be read."""
    noted: dict[str, Any] = read_json(folder / _PROGRESS)
    done, errors = noted.get("done"), noted.get("unreadable")
    try:
        whole = unfinished.stat().st_size
    except OSError:
        return 0, {}
    if not isinstance(done, int) or not isinstance(errors, dict):
        return 0, {}
    if whole < len(header) + geometry.bytes_of(done):
        return 0, {}
    return done, {int(row): str(why) for row, why in errors.items() if int(row) < done}


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the beginning of an ``.npy`` file of uint8."""
    header = io.BytesIO()
    described = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(header, described)
    return header.getvalue()
