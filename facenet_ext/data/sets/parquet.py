"""Parquet with encoded images, as Hugging Face's ``datasets`` writes them."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext._extras import how_to_install
from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.text import number_names, printable
from facenet_ext.data.sets.files import MOST_BYTES, stamp
from facenet_ext.data.sets.index import Index, cached_index, text_columns
from facenet_ext.data.sets.indexed import IndexedSet, fingerprint_of, number_labels

__all__ = ["ParquetSet", "open_parquet", "parquet_library"]

_IMAGES = ("image", "img", "jpg", "picture")
_LABELS = ("label", "labels", "identity", "identity_id", "person", "class", "cls")
_KEPT = 2**26
"""Bytes of row groups that a process keeps: a batch's rows lie in many of them."""


class ParquetSet(IndexedSet):
    """Images in a column of Parquet files; a row group is read for the first image wanted of it."""

    kind = "Parquet"

    def __init__(self, root: Path, index: Index, paths: Sequence[Path]) -> None:
        super().__init__(root, index)
        self._paths = list(paths)
        self._column = str(index.facts["column"])
        self._groups, self._files = index["groups"], index["files"]
        self._lock, self._process = threading.Lock(), os.getpid()
        self._open: dict[int, Any] = {}
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type[ParquetSet], tuple[Any, ...]]:
        return type(self), (self.root, self.index, self._paths)

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            InputError: it cannot be read.
        """
        content = self._cell(row, "bytes")
        if not isinstance(content, bytes) or not content:
            raise InputError(f"{self._where(row)}: has no bytes of an image")
        if len(content) > MOST_BYTES:
            raise InputError(f"{self._where(row)}: has more than {MOST_BYTES:,} bytes")
        return content

    def name(self, row: int) -> str:
        """Return the identity and the image's own name, or its row where it has none."""
        path = self._cell(row, "path")
        whose = self.identities[int(self.labels[row])]
        base = os.path.basename(path) if isinstance(path, str) else ""
        return f"{whose}/{base or format(row, '07d')}"

    def _where(self, row: int) -> str:
        group = self._group(row)
        return f"{self._paths[int(self._files[group])]}: row {row - int(self._groups[group]):,}"

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self._groups, row, "right")) - 1

    def _cell(self, row: int, part: str) -> Any:
        """Return the bytes or the path of an image; None where it has none."""
        group = self._group(row)
        with self._lock:
            cell = self._row_group(group)[row - int(self._groups[group])]
        if not str(cell.type).startswith("struct<"):
            return cell.as_py() if part == "bytes" else None
        try:
            return cell[part].as_py() if cell.is_valid else None
        except (KeyError, UnicodeDecodeError):  # a struct of bytes alone, or a damaged path
            return None

    def _row_group(self, group: int) -> Any:
        """Return a column of a row group; those of the last reads are kept."""
        if self._process != os.getpid():  # after a fork: a file has one place for both processes
            self._process, self._open = os.getpid(), {}
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        number = int(self._files[group])
        path, first = self._paths[number], int(np.searchsorted(self._files, number))
        try:
            if number not in self._open:
                if list(stamp(path)) != list(self.index.facts["stamps"][number]):
                    raise InputError(
                        f"{path}: has changed since it was opened first; start the command again"
                    )
                self._open[number] = parquet_library()[0].ParquetFile(path)
            table = self._open[number].read_row_group(
                group - first, columns=[self._column], use_threads=False
            )
        except InputError:
            raise
        except Exception as error:  # errors of many kinds: the file may hold anything
            raise InputError(
                f"{path}: row group {group - first} is damaged ({one_line(error)})"
            ) from None
        column = table.column(0)
        rows = self._groups[group + 1] if group + 1 < len(self._groups) else len(self)
        if len(column) != int(rows) - int(self._groups[group]):
            raise InputError(f"{path}: row group {group - first} is damaged (columns differ)")
        self._kept[group] = column
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _KEPT:
            self._kept.popitem(last=False)
        return column


def parquet_library() -> tuple[Any, Any]:
    """Return the modules ``pyarrow.parquet`` and ``pyarrow``.

    Raises:
        InputError: they are not installed.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as missing:
        raise InputError(f"Parquet {how_to_install(missing.name or 'pyarrow', 'train')}") from None
    return pyarrow.parquet, pyarrow


def open_parquet(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> ParquetSet:
    """Open Parquet files with a column of images and one of labels.

    Args:
        paths: of the files, in the order of the rows.
        progress: called with how many files are indexed, and how many there are.

    Raises:
        InputError: a file is missing or damaged, or lacks the columns.
    """
    root = paths[0] if len(paths) == 1 else Path(os.path.commonpath([p.parent for p in paths]))
    stamps = [stamp(path) for path in paths]
    called = [os.path.relpath(path, root.parent) for path in paths]
    fingerprint = fingerprint_of(ParquetSet.kind, list(zip(called, stamps, strict=True)))

    def build() -> Index:
        index = _index(paths, progress)
        index.facts.update(fingerprint=fingerprint, stamps=stamps)
        return index

    about = ParquetSet.kind, [str(path.resolve()) for path in paths]
    index = cached_index(about, lambda old: old.fingerprint == fingerprint, build)
    return ParquetSet(root, index, paths)


def _index(paths: Sequence[Path], progress: Callable[[int, int], None] | None) -> Index:
    groups, files, parts, total, rows = [], [], [], 0, 0
    columns: tuple[str, str] | None = None
    names: list[str] | None = None
    for number, path in enumerate(paths):
        try:
            with parquet_library()[0].ParquetFile(path) as file:
                of_file = _columns(path, file.schema_arrow)
                if columns is not None and of_file != columns:
                    raise InputError(
                        f"{path}: has the columns {of_file}, and {paths[0]} has {columns}"
                    )
                columns = of_file
                names = _label_names(file.schema_arrow, of_file[1])
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=[of_file[1]], use_threads=False)
                    values = table.column(0)
                    if values.null_count:
                        raise InputError(f"{path}: a row of column {of_file[1]!r} is empty")
                    if len(values):
                        groups.append(rows)
                        files.append(number)
                        parts.append(
                            values.to_pylist() if _is_text(values.type) else values.to_numpy()
                        )
                        rows += len(values)
                        total += _stored(file.metadata.row_group(group), of_file[0])
        except InputError:
            raise
        except Exception as error:  # errors of many kinds: the file may hold anything
            raise InputError(
                f"{path}: is no Parquet file, or a damaged one ({one_line(error)})"
            ) from None
        if progress is not None:
            progress(number + 1, len(paths))
    if not rows or columns is None:
        raise InputError(f"{paths[0]}: has no rows")
    made: dict[str, NDArray[Any]] = {
        "groups": np.array(groups, np.int64),
        "files": np.array(files, np.int64),
    }
    if isinstance(parts[0], list):
        people, labels = number_names([name for part in parts for name in part])
        made |= {"labels": labels, **text_columns("identities", people)}
    else:
        values = np.concatenate(parts).astype(np.int64)
        if names is not None and not 0 <= values.min() <= values.max() < len(names):
            names = None
        made |= number_labels(values, names)
    return Index(made, {"column": columns[0], "bytes": total})


def _is_text(kind: Any) -> bool:
    return "string" in str(kind)


def _stored(group: Any, column: str) -> int:
    """Return the bytes of a column of images in a row group, not compressed."""
    chunks = (group.column(at) for at in range(group.num_columns))
    return sum(
        int(chunk.total_uncompressed_size)
        for chunk in chunks
        if chunk.path_in_schema in (column, f"{column}.bytes")
    )


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """Find the columns of images and of labels by their types, and by their names among several."""
    images, labels = [], []
    for field in schema:
        kind = str(field.type)
        if kind.endswith("binary") or (kind.startswith("struct<") and "bytes: " in kind):
            images.append(field.name)
        elif kind in _WHOLE_NUMBERS or (_is_text(kind) and field.name in _LABELS):
            labels.append(field.name)
    chosen = []
    for what, suitable, usual in (("images", images, _IMAGES), ("labels", labels, _LABELS)):
        named = [name for name in usual if name in suitable]
        if len(suitable) != 1 and not named:
            columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise InputError(
                f"{path}: has no column of {what}; expected a struct of bytes and path called "
                f"'image', and whole numbers called 'label'; there are {printable(columns)}"
            )
        chosen.append(named[0] if named else suitable[0])
    return chosen[0], chosen[1]


_WHOLE_NUMBERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def _label_names(schema: Any, column: str) -> list[str] | None:
    """Return the names of the labels that ``datasets`` keeps beside the columns, if it does."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][column]["names"]
        distinct = len(set(names)) == len(names)
        return names if distinct and all(isinstance(name, str) for name in names) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
