"""What the image sets share whose files are indexed."""

from __future__ import annotations

import abc
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import number_names, read_lines
from facenet_ext.data.sets.files import Stamp
from facenet_ext.data.sets.index import Index, text_columns

__all__ = [
    "DEEPER",
    "NAMES",
    "IndexedSet",
    "NoSuchImagesError",
    "by_folder",
    "fingerprint_of",
    "inner_name",
    "is_pairs",
    "number_labels",
    "read_identity_names",
]

DEEPER = "image in a folder of an identity's folder"
"""What an archive's set passes over, and its unpacked folder might hold for another purpose."""

NAMES = "identity_names.txt"
"""A file beside numbered identities that names them: one a line, the name of number 0 first."""


class NoSuchImagesError(InputError):
    """An archive is whole, and holds no images ``<identity>/<image>``."""


class IndexedSet(abc.ABC):
    """A set with an index; see :class:`facenet_ext.data.image_set.ImageSet`.

    Args:
        root: the folder or file that the set was opened from.
        index: has the columns ``labels`` and ``identities``.

    Attributes:
        passed_over: counts, by kind, what lies beside the images and is not read.
        encoded_bytes: bytes of all images as they are stored.
    """

    kind = ""

    def __init__(self, root: Path, index: Index) -> None:
        self.root, self.index = root, index
        self.labels: NDArray[np.int64] = index["labels"]
        self.identities: Sequence[str] = index.texts("identities")
        self.passed_over = Counter[str](index.facts.get("passed_over", {}))
        self.encoded_bytes = int(index.facts["bytes"])

    def __reduce__(self) -> tuple[type[IndexedSet], tuple[Any, ...]]:
        return type(self), (self.root, self.index)

    @abc.abstractmethod
    def read(self, row: int) -> bytes:
        """Return the content of an image's file."""

    @abc.abstractmethod
    def name(self, row: int) -> str:
        """Return what messages and pictures call an image."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes where an image, a label or a name does."""
        return self.index.fingerprint

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"


def fingerprint_of(kind: str, files: Sequence[tuple[str, Stamp]]) -> str:
    """Return the fingerprint of a set: of the names, sizes and times of its files."""
    return hashlib.sha256(json.dumps([kind, *files]).encode()).hexdigest()


def number_labels(
    values: NDArray[np.int64], names: Sequence[str] | None
) -> dict[str, NDArray[Any]]:
    """Return the columns of labels and identities for numbered identities.

    Args:
        values: ``[N]``, the number of each image's identity.
        names: the name of each number from 0 on; None calls them by their numbers.
    """
    numbers, labels = np.unique(values, return_inverse=True)
    if names is None:
        called = [str(number) for number in numbers.tolist()]
    else:
        called = [names[number] for number in numbers.tolist()]
    return {"labels": labels.astype(np.int64), **text_columns("identities", called)}


def by_folder(
    names: Sequence[str], passed_over: Counter[str], called: str
) -> tuple[NDArray[np.int64], int, dict[str, NDArray[Any]]]:
    """Return the order and the labels of an archive's images ``<identity>/<image>``.

    The archive may hold one folder, or several in each other, that these lie in.

    Args:
        names: the path of each image in the archive.
        passed_over: counts what lies elsewhere.
        called: the archive, for messages.

    Returns:
        ``[N]`` places in ``names``, in order of the paths; how many folders are above those of the
        identities; columns as :func:`number_labels` returns them.

    Raises:
        NoSuchImagesError: there are none.

    Example:
        >>> order, _, columns = by_folder(["f/Bob/2.jpg", "f/0.jpg", "f/Ann/1.jpg"], Counter(), "")
        >>> order.tolist(), columns["labels"].tolist()
        ([2, 0], [0, 1])
    """
    paths = [tuple(name.removeprefix("./").split("/")) for name in names]
    depth = 0
    while len({path[depth : depth + 1] for path in paths}) == 1 and (
        max(map(len, paths)) - depth > 2
    ):
        depth += 1
    last = {path: row for row, path in enumerate(paths)}  # a member may be there in two versions
    kept = [row for path, row in last.items() if len(path) - depth == 2]
    for path in last:
        if len(path) - depth < 2:
            passed_over["image in no identity's folder"] += 1
        elif len(path) - depth > 2:
            passed_over[DEEPER] += 1
    if not kept:
        raise NoSuchImagesError(f"{called}: no images found in it as <identity>/<image>")
    kept.sort(key=lambda row: paths[row][depth:])
    people, labels = number_names([paths[row][depth] for row in kept])
    columns = {"labels": labels, **text_columns("identities", people)}
    return np.array(kept, np.int64), depth, columns


def inner_name(name: str, depth: int) -> str:
    """Return the part of a member's path that begins with the identity."""
    return "/".join(name.removeprefix("./").split("/")[depth:])


def is_pairs(name: str) -> bool:
    """Whether a file of an archive names pairs to verify."""
    return name.rpartition("/")[2] == "pairs.txt"


def read_identity_names(folder: Path, values: NDArray[np.int64]) -> list[str] | None:
    """Read the names of numbered identities, if a file beside them has some.

    Raises:
        InputError: the file has too few lines, or names two identities alike.
    """
    path = folder / NAMES
    if not path.is_file():
        return None
    names = read_lines(path)
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < len(names):
        raise InputError(
            f"{path}: has {len(names):,} lines, and the identities are numbered "
            f"{values.min()} to {values.max()}; it needs one line for each number from 0 on"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{path}: names two identities alike")
    return names
