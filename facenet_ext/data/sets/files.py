"""Reads parts of files, at any place, in any thread and any process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facenet_ext.common.errors import InputError

__all__ = ["MOST_BYTES", "Files", "Stamp", "check", "stamp"]

MOST_BYTES = 2**30
"""Most bytes of an image's file. Whatever claims more is damaged, or was made to do harm."""

_MOST_OPEN = 256
"""Files that stay open; of more, each is opened for each read."""


class Stamp(NamedTuple):
    """What changes when a file does.

    Attributes:
        size: bytes.
        modified: nanoseconds since 1970.
    """

    size: int
    modified: int


def check(status: os.stat_result) -> Stamp:
    """Return the stamp of a file from its status."""
    return Stamp(status.st_size, status.st_mtime_ns)


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        InputError: there is no such file, or it cannot be reached.
    """
    try:
        return check(path.stat())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


class Files:
    """Files that are read in parts, as they were when the set was indexed.

    A read names its place, so threads and processes share open files without harm. Pickled, it is
    the names alone.

    Args:
        paths: of the files.
        stamps: of the files, when they were indexed.
    """

    def __init__(self, paths: Sequence[Path], stamps: Sequence[Stamp]) -> None:
        self.paths, self.stamps = list(paths), list(stamps)
        self._open: dict[int, int] = {}

    def __reduce__(self) -> tuple[type[Files], tuple[list[Path], list[Stamp]]]:
        return Files, (self.paths, self.stamps)

    def __del__(self) -> None:
        for descriptor in self._open.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return a part of a file; less where the file ends.

        Args:
            number: of the file.
            offset: of the part's first byte.
            length: bytes.

        Raises:
            InputError: the file cannot be read, or is another one than was indexed.
        """
        path = self.paths[number]
        try:
            descriptor = self._open.get(number)
            if descriptor is not None:
                return os.pread(descriptor, length, offset)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            keeps = False
            try:
                if check(os.fstat(descriptor)) != self.stamps[number]:
                    raise InputError(
                        f"{path}: has changed since it was opened first; start the command again"
                    )
                content = os.pread(descriptor, length, offset)
                keeps = len(self._open) < _MOST_OPEN
                keeps = keeps and self._open.setdefault(number, descriptor) == descriptor
                return content
            finally:
                if not keeps:  # another thread has opened it too, or too many are open
                    os.close(descriptor)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
