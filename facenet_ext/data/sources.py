"""Finds what ``--data`` means: one image set, or a folder of two and pairs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.indexed import DEEPER, NoSuchImagesError
from facenet_ext.data.sets.opening import set_files
from facenet_ext.data.unpacking import unpacked

__all__ = ["Source", "find"]

_SETS = (".rec", ".parquet")


@dataclasses.dataclass(frozen=True)
class Source:
    """The image sets that a ``--data`` argument stands for.

    Attributes:
        train: what :func:`facenet_ext.data.sets.open_set` opens.
        val: the same, of identities to verify on; None where they must be split off ``train``.
        pairs: pairs over ``val``, or None for all pairs.
    """

    train: Path
    val: Path | None
    pairs: Path | None


def find(data: str, progress: Callable[[int, int], None] | None = None) -> Source:
    """Find the image sets behind a ``--data`` argument.

    An archive is read where it is if it holds ``<identity>/<image>`` and no more. Any other is
    unpacked into the cache.

    Args:
        data: what :func:`facenet_ext.data.sets.open_set` opens; or a folder, or an archive of one,
            with such ``train/`` and ``val/``, and perhaps ``pairs.txt``.
        progress: see :func:`facenet_ext.data.sets.open_set`.

    Returns:
        A :class:`Source`.

    Raises:
        InputError: there is no such data, or it is damaged or unsafe.
    """
    kind, paths = set_files(data)
    root = paths[0]
    if kind in _SETS:
        return Source(Path(data), None, None)
    if kind != "folder":
        if kind in (".tar", ".zip"):
            with contextlib.suppress(NoSuchImagesError):  # videos, for example, or train/ and val/
                images = open_set(data, progress)
                if kind == ".tar" and images.index.facts["numbered"]:
                    return Source(Path(data), None, None)
                if not images.passed_over[DEEPER] and not images.index.facts["pairs"]:
                    return Source(Path(data), None, None)
        if len(paths) > 1:  # says what is missing
            open_set(data)
        root = unpacked(root)
    if (root / "train").is_dir() and (root / "val").is_dir():
        pairs = root / "pairs.txt"
        return Source(root / "train", root / "val", pairs if pairs.is_file() else None)
    return Source(root, None, None)
