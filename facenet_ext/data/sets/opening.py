"""Finds out what some data is, and opens it as an image set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.data.image_list import entries_of, is_folder
from facenet_ext.data.names import ARCHIVES
from facenet_ext.data.sets.folder import open_folder
from facenet_ext.data.sets.indexed import IndexedSet
from facenet_ext.data.sets.parquet import open_parquet
from facenet_ext.data.sets.patterns import matching
from facenet_ext.data.sets.records import open_records
from facenet_ext.data.sets.shards import open_shards
from facenet_ext.data.sets.zipped import open_zip
from facenet_ext.data.unpacking import unpacked

__all__ = ["ENDINGS", "READ_IN_PLACE", "open_set", "set_files"]

_EXPECTED = (
    "a folder root/<identity>/<image>, or an archive of one, InsightFace's .rec with its .idx, "
    "WebDataset's .tar shards, or Parquet files"
)
_OF_SETS = (".rec", ".tar", ".parquet")
READ_IN_PLACE = (*_OF_SETS, ".zip")
ENDINGS = (*_OF_SETS, *ARCHIVES)
"""The endings of the files of image sets."""


def open_set(data: str, progress: Callable[[int, int], None] | None = None) -> IndexedSet:
    """Open an image set, whatever its format.

    Args:
        data: a folder ``<identity>/<image>``, or an archive of one; a ``.rec`` with its ``.idx``;
            WebDataset's ``.tar`` shards, or Parquet files: a glob or a pattern in braces names
            several, and so does the folder that they lie in.
        progress: called with how much is indexed, and how much there is, when data is seen first;
            by default a bar shows it, on a terminal.

    Returns:
        The set: see :class:`facenet_ext.data.image_set.ImageSet`.

    Raises:
        InputError: there is no such data, or it is damaged or unsafe, or holds no images.

    Example:
        >>> from PIL import Image
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("Ann", "Bob"):
        ...         Path(folder, name).mkdir()
        ...         Image.new("L", (8, 8)).save(Path(folder, name, "1.png"))
        ...     images = open_set(folder)
        ...     images.kind, list(images.identities), images.labels.tolist(), images.name(1)
        ('folder', ['Ann', 'Bob'], [0, 1], 'Bob/1.png')
    """
    if progress is None:
        with Counting("indexing", make_console(stderr=True)) as bar:
            return open_set(data, bar)
    kind, paths = set_files(data)
    if kind == ".rec":
        return open_records(paths[0], progress)
    if kind == ".tar":
        return open_shards(paths, progress)
    if kind == ".parquet":
        return open_parquet(paths, progress)
    if kind == ".zip":
        return open_zip(paths[0])
    return open_folder(paths[0] if kind == "folder" else unpacked(paths[0]), progress)


def set_files(data: str) -> tuple[str, list[Path]]:
    """Return of what kind some data is, and its files.

    Args:
        data: see :func:`open_set`.

    Returns:
        ``"folder"``, or the ending of the files; and their paths.

    Raises:
        InputError: there is no such data, or it is of several kinds, or of none.
    """
    paths = matching(data) if data else []
    if not paths:
        raise InputError(f"`data` {data}: no such folder or archive; give 'digits', {_EXPECTED}")
    if paths[0].is_dir():
        if len(paths) > 1:
            raise InputError(f"`data` {data}: {counted(len(paths), 'folder')}; give one")
        return _in_folder(paths[0])
    kinds = {_kind(path) for path in paths}
    kind = kinds.pop()
    if kinds or kind is None:
        raise InputError(
            f"`data` {data}: not a folder nor an archive ({', '.join(ARCHIVES)}), nor files of one "
            "of the kinds .rec, .tar and .parquet"
        )
    if len(paths) > 1 and kind not in (".tar", ".parquet"):
        raise InputError(f"`data` {data}: {counted(len(paths), f'file {kind}')}; give one")
    return kind, paths


def _kind(path: Path) -> str | None:
    return next((ending for ending in ENDINGS if path.name.endswith(ending)), None)


def _in_folder(folder: Path) -> tuple[str, list[Path]]:
    """Return of what kind the data in a folder is: of folders, unless there are other files."""
    try:
        entries = entries_of(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    of_kind = {
        kind: [
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(kind) and not entry.name.startswith(".")
        ]
        for kind in _OF_SETS
    }
    folders = [entry for entry in entries if is_folder(entry) and not entry.name.startswith(".")]
    records = of_kind[".rec"]
    if records:
        named = [path for path in records if path.name == "train.rec"]
        if len(records) > 1 and not named:
            raise InputError(f"{folder}: holds {counted(len(records), 'file .rec')}; give one")
        return ".rec", named or records
    if of_kind[".tar"] and not folders:
        return ".tar", of_kind[".tar"]
    tables = of_kind[".parquet"]
    if not tables and [entry.name for entry in folders] == ["data"]:
        tables = sorted((folder / "data").glob("*.parquet"))
    elif folders:
        tables = []
    if tables:
        splits = sorted({path.name.partition("-")[0] for path in tables if "-of-" in path.name})
        if len(splits) > 1:
            raise InputError(
                f"{folder}: holds the splits {', '.join(splits)}; give the files of one, as "
                f"'{tables[0].parent}/{splits[-1]}-*.parquet'"
            )
        return ".parquet", tables
    return "folder", [folder]
