"""Tells images from what else lies in a folder, and counts what is not read."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from pathlib import Path

from PIL import Image, ImageFile

from facenet_ext.common.plain_warnings import reading
from facenet_ext.common.text import printable

__all__ = ["entries_of", "is_folder", "is_image", "passed_over_in", "told"]

_TEXTS = (".csv", ".html", ".json", ".log", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml")
_TABLES = (".npy", ".npz", ".parquet")
_SIDE_FILES = frozenset(_TEXTS + _TABLES)
_OF_SYSTEMS = frozenset(("desktop.ini", "thumbs.db"))
_KINDS_TOLD = 8

Entry = Path | os.DirEntry[str]


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in order of the names."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: Entry) -> bool:
    """Whether it is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(entry: Entry, passed_over: Counter[str]) -> bool:
    """Whether a file is an image that Pillow reads.

    That is told by the ending; where Pillow does not know it, or there is none, by the content.

    Args:
        entry: no folder.
        passed_over: counts by kind what is no image. Hidden files, and texts and tables, which
            often lie beside images, are not counted.

    Example:
        >>> passed_over = Counter()
        >>> is_image(Path("/dev/null"), passed_over), told(passed_over)
        (False, '1 special file')
    """
    ending = os.path.splitext(entry.name)[1].lower().rstrip(".")
    if entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS or ending in _SIDE_FILES:
        return False
    try:
        is_file = entry.is_file()
        is_link = entry.is_symlink()
    except OSError:  # a link to itself, or a name that is too long for any file
        is_file, is_link = False, True
    if is_file and (ending in _endings(len(Image.EXTENSION)) or _has_known_content(entry)):
        return True
    if not is_file:
        passed_over["dangling link" if is_link else "special file"] += 1
    else:
        passed_over[printable(ending) or "file without ending"] += 1
    return False


def passed_over_in(root: Path, passed_over: Counter[str]) -> str:
    """Return the line that tells what was counted under a folder.

    Example:
        >>> passed_over_in(Path("faces"), Counter({".heic": 2}))
        'passed over in faces: 2 .heic'
    """
    return f"passed over in {printable(root)}: {told(passed_over)}"


def told(passed_over: Counter[str]) -> str:
    """Return in words what was counted.

    Example:
        >>> told(Counter({".heic": 2, "dangling link": 1, "folder in an identity's folder": 3}))
        "3 folders in an identity's folder, 2 .heic, 1 dangling link"
    """
    kinds = passed_over.most_common(_KINDS_TOLD)
    rest = passed_over.total() - sum(count for _, count in kinds)
    return ", ".join(f"{count:,} {_plural(kind, count)}" for kind, count in kinds) + (
        f", {rest:,} of other kinds" if rest else ""
    )


def _plural(kind: str, count: int) -> str:
    if count == 1 or kind.startswith("."):
        return kind
    return re.sub(r"\b(file|folder|image|link)\b", r"\1s", kind, count=1)


def _reads_pixels(name: str) -> bool:
    """Whether Pillow reads pixels of a format: of some it knows no more than that it is one."""
    opener = Image.OPEN.get("JPEG" if name == "MPO" else name)  # an MPO is opened as a JPEG
    if opener is None or name == "MPEG":
        return False
    return not (isinstance(opener[0], type) and issubclass(opener[0], ImageFile.StubImageFile))


@functools.cache
def _endings(known: int) -> frozenset[str]:
    """Return the endings of images, once for so many as are known: plugins may add some."""
    return frozenset(e for e, name in Image.registered_extensions().items() if _reads_pixels(name))


@functools.cache
def _marked_formats(known: int) -> tuple[str, ...]:
    """Return the formats whose files begin with a mark; any bytes may pass for one of the rest."""
    Image.init()
    return tuple(name for name in Image.ID if Image.OPEN[name][1] and _reads_pixels(name))


def _has_known_content(entry: Entry) -> bool:
    try:
        path = Path(entry)
        with reading(path), Image.open(path, formats=_marked_formats(len(Image.OPEN))):
            return True
    except Image.DecompressionBombError:  # an image, which can be told when it is read
        return True
    except Exception:  # of many kinds: it may be anything
        return False
