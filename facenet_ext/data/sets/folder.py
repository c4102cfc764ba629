"""A folder ``<identity>/<image>`` as an image set."""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import number_names
from facenet_ext.data.image_list import entries_of, images_under, is_folder, no_images
from facenet_ext.data.sets.files import Stamp, check
from facenet_ext.data.sets.index import Index, cached_index, text_columns
from facenet_ext.data.sets.indexed import IndexedSet, fingerprint_of

__all__ = ["FolderSet", "open_folder"]

_LISTED_ANEW = 100_000
"""Up to so many images are listed at each opening, which takes a second."""


_AT_ONCE = 2**24
"""Bytes of a large file that are read at once; the system gives 2 GiB at most."""


class FolderSet(IndexedSet):
    """Images in files."""

    kind = "folder"

    def __init__(self, root: Path, index: Index) -> None:
        super().__init__(root, index)
        self._names, self._folders = index.texts("names"), index.texts("folders")
        self._firsts, self._checks = index["firsts"], index["checks"]

    def name(self, row: int) -> str:
        """Return the path of the image's file under the root."""
        folder = int(self._firsts.searchsorted(row, "right")) - 1
        return f"{self._folders[folder]}/{self._names[row]}"

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            InputError: it cannot be read, or is another one than was listed.
        """
        path = f"{self.root}/{self.name(row)}"
        try:  # by the system's calls: Python's files take twice as long
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(file)
                if _check(check(status)) == self._checks[row]:
                    content = os.read(file, status.st_size)
                    while len(content) < status.st_size and (more := os.read(file, _AT_ONCE)):
                        content += more
                    return content
            finally:
                os.close(file)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        if self.index.path is not None:  # the next opening lists the folder anew
            self.index.path.unlink(missing_ok=True)
        raise InputError(
            f"{path}: has changed since its folder was listed; start the command again"
        )


def _check(of: Stamp) -> int:
    """Return 32 bits of a file's stamp."""
    return zlib.crc32(b"%d %d" % of)


def open_folder(root: Path, progress: Callable[[int, int], None] | None = None) -> FolderSet:
    """Open a folder ``<identity>/<image>``.

    Args:
        root: the folder.
        progress: called with how many identities are listed, and how many there are.

    Raises:
        InputError: it holds no such images, or cannot be read.
    """

    def is_current(old: Index) -> bool:
        return len(old["labels"]) > _LISTED_ANEW and old.facts["stamp"] == _folders_stamp(root)

    index = cached_index(
        (FolderSet.kind, root.resolve()), is_current, lambda: _index(root, progress)
    )
    return FolderSet(root, index)


def _folders_stamp(root: Path) -> str:
    """Return a hash that changes where a file is added, removed or replaced.

    It is of the times of the folders: those of 100,000 are read in a second, those of the files in
    them would take minutes.
    """
    hashed = hashlib.sha256()
    try:
        for entry in entries_of(root):
            if is_folder(entry) and not entry.name.startswith("."):
                hashed.update(f"{entry.name!r} {entry.stat().st_mtime_ns}\n".encode())
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return hashed.hexdigest()


def _index(root: Path, progress: Callable[[int, int], None] | None) -> Index:
    stamp = _folders_stamp(root)
    count = len(entries_of(root))
    passed_over: Counter[str] = Counter()
    folders: list[str] = []
    names, ends = bytearray(), array("Q")
    firsts, checks = array("q"), array("L")
    hashed, total = hashlib.sha256(), 0
    for folder, _, entry in images_under(root, passed_over, by_identity=True):
        if not folders or folders[-1] != folder[:-1]:
            folders.append(folder[:-1])
            if progress is not None:
                progress(len(folders), max(count, len(folders)))
            firsts.append(len(ends))
            hashed.update(f"{folder!r}\n".encode())
        names += entry.name.encode("utf-8", "surrogateescape")
        ends.append(len(names))
        try:
            file = check(entry.stat())
        except OSError as error:
            raise InputError(f"{entry.path}: cannot be read ({error.strerror})") from None
        hashed.update(f"{entry.name!r} {file.size} {file.modified}\n".encode())
        checks.append(_check(file))
        total += file.size
    if not ends:
        raise no_images(root, passed_over)
    people, of_folder = number_names(folders)
    counts = np.diff(np.array([*firsts, len(ends)]))
    columns: dict[str, NDArray[Any]] = {
        "labels": np.repeat(of_folder, counts),
        "firsts": np.array(firsts, np.int64),
        "names.bytes": np.frombuffer(bytes(names), np.uint8),
        "names.ends": np.array(ends, np.uint32 if len(names) < 2**32 else np.uint64),
        "checks": np.array(checks, np.uint32),
        **text_columns("folders", folders),
        **text_columns("identities", people),
    }
    listed = Stamp(total, 0)
    facts = {
        "fingerprint": fingerprint_of(FolderSet.kind, [(hashed.hexdigest(), listed)]),
        "stamp": stamp,
        "passed_over": dict(passed_over),
        "bytes": total,
    }
    return Index(columns, facts)
