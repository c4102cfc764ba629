"""Tar files as image sets: WebDataset's shards, and an archive of ``<identity>/<image>``."""

from __future__ import annotations

import itertools
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted, printable
from facenet_ext.data.image_list import is_image_name, told
from facenet_ext.data.sets.files import MOST_BYTES, Files, Stamp, stamp
from facenet_ext.data.sets.index import Index, TextList, cached_index, text_columns
from facenet_ext.data.sets.indexed import (
    NAMES,
    IndexedSet,
    NoSuchImagesError,
    by_folder,
    fingerprint_of,
    inner_name,
    is_pairs,
    number_labels,
    read_identity_names,
)
from facenet_ext.data.sets.tar import BLOCK, TarMember, header_name, tar_members

__all__ = ["TarSet", "open_shards"]

_LABEL = ".cls"
_NUMBER = re.compile(rb"\s*-?[0-9]{1,18}\s*")
_LONGEST = 64
_FIRST_MEMBERS = 100


class TarSet(IndexedSet):
    """Images in tar files."""

    def __init__(self, root: Path, index: Index, paths: Sequence[Path]) -> None:
        super().__init__(root, index)
        self.kind = "WebDataset shards" if index.facts["numbered"] else "tar archive"
        self._files = Files(paths, [Stamp(*one) for one in index.facts["stamps"]])
        self._offsets, self._sizes = index["offsets"], index["sizes"]
        columns = index.columns
        self._firsts, self._numbers = columns.get("firsts"), columns.get("files")
        self._names = index.texts("names") if "names.ends" in columns else None

    def __reduce__(self) -> tuple[type[TarSet], tuple[Any, ...]]:
        return type(self), (self.root, self.index, self._files.paths)

    def _file(self, row: int) -> int:
        """Return the number of the file that an image is in."""
        if self._firsts is None:
            assert self._numbers is not None
            return int(self._numbers[row])
        return int(np.searchsorted(self._firsts, row, "right")) - 1

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            InputError: it cannot be read.
        """
        file, size = self._file(row), int(self._sizes[row])
        content = self._files.read(file, int(self._offsets[row]), size)
        if len(content) < size:
            raise InputError(f"{self._files.paths[file]}: {self.name(row)} is cut off")
        return content

    def name(self, row: int) -> str:
        """Return an archive's ``<identity>/<image>``; or a shard's member, after its shard."""
        file = self._file(row)
        if self._names is not None:
            name = self._names[row]
        else:
            begin = int(self._offsets[row]) - BLOCK
            name = header_name(self._files.read(file, begin, BLOCK))
        if self._firsts is None:
            return inner_name(name, int(self.index.facts["depth"]))
        if len(self._files.paths) == 1:
            return name
        path = self._files.paths[file]
        shown = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return f"{shown.with_suffix('')}/{name}"


def open_shards(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> TarSet:
    """Open tar files.

    Members ``KEY.jpg`` and ``KEY.cls`` with the same key, one after the other, are an image and the
    number of its identity. Without any ``.cls`` the folder that an image lies in is its identity.

    Args:
        paths: of the files, in the order of the rows.
        progress: called with how many bytes are indexed, and how many there are.

    Raises:
        InputError: a file is missing, damaged or unsafe, or holds no images.
    """
    root = paths[0] if len(paths) == 1 else Path(os.path.commonpath([p.parent for p in paths]))
    names = paths[0].with_name(NAMES)
    files = [*paths, *([names] if names.is_file() else [])]
    stamps = [stamp(file) for file in files]
    about = "tar", [str(path.resolve()) for path in paths]
    called = [os.path.relpath(file, root.parent) for file in files]
    fingerprint = fingerprint_of("tar", list(zip(called, stamps, strict=True)))

    def build() -> Index:
        return _Indexing(paths, stamps[: len(paths)], progress).index(fingerprint)

    index = cached_index(about, lambda old: old.fingerprint == fingerprint, build)
    return TarSet(root, index, paths)


class _Indexing:
    """Makes the index of tar files.

    Args:
        paths: see :func:`open_shards`.
        stamps: of the files.
        progress: see there.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        stamps: Sequence[Stamp],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.paths, self.stamps, self.progress = paths, stamps, progress
        self.offsets, self.sizes, self.values = array("Q"), array("L"), array("q")
        self.firsts = array("q")
        self.names = TextList()
        self.all_plain, self.has_pairs = True, False
        self.passed_over: Counter[str] = Counter()

    def index(self, fingerprint: str) -> Index:
        """Read all files, and return their index."""
        total, done = sum(one.size for one in self.stamps), 0
        numbered = any(map(_has_labels, self.paths))
        for path, one in zip(self.paths, self.stamps, strict=True):
            self.firsts.append(len(self.offsets))
            (self._read_samples if numbered else self._read_images)(path)
            done += one.size
            if self.progress is not None:
                self.progress(done, total)
        if not self.offsets:
            more = f" ({told(self.passed_over)})" if self.passed_over else ""
            wanted = "KEY.jpg with KEY.cls" if numbered else "<identity>/<image>"
            raise NoSuchImagesError(f"{self._called()}: no images found{more}; expected {wanted}")
        columns: dict[str, NDArray[Any]] = {
            "offsets": np.array(self.offsets, np.uint64),
            "sizes": np.array(self.sizes, np.uint32),
            "firsts": np.array(self.firsts, np.int64),
        }
        depth = 0
        if numbered:
            values = np.array(self.values, np.int64)
            columns |= number_labels(values, read_identity_names(self.paths[0].parent, values))
            if not self.all_plain:
                columns |= self.names.columns("names")
        else:
            names = list(self.names.texts())
            order, depth, more_columns = by_folder(names, self.passed_over, self._called())
            columns |= more_columns
            if not self.all_plain:
                columns |= text_columns("names", (names[row] for row in order.tolist()))
            for name in ("offsets", "sizes"):
                columns[name] = columns[name][order]
            files = np.searchsorted(columns.pop("firsts"), order, "right") - 1
            columns["files"] = files.astype(np.uint16 if len(self.paths) < 2**16 else np.uint32)
        facts = {
            "fingerprint": fingerprint,
            "stamps": self.stamps,
            "numbered": numbered,
            "pairs": self.has_pairs,
            "depth": depth,
            "passed_over": dict(self.passed_over),
            "bytes": int(columns["sizes"].sum(dtype=np.int64)),
        }
        return Index(columns, facts)

    def _called(self) -> str:
        more = f" and {counted(len(self.paths) - 1, 'more')}" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"

    def _add(self, path: Path, image: TarMember) -> None:
        if image.size > MOST_BYTES:
            raise InputError(
                f"{path}: {printable(image.name)} has {image.size:,} bytes, and an image has "
                f"{MOST_BYTES:,} at most"
            )
        self.offsets.append(image.offset)
        self.sizes.append(image.size)
        self.names.append(image.name)
        self.all_plain = self.all_plain and image.plain

    def _read_images(self, path: Path) -> None:
        for member in tar_members(path):
            self.has_pairs = self.has_pairs or is_pairs(member.name)
            if is_image_name(member.name, self.passed_over):
                self._add(path, member)

    def _read_samples(self, path: Path) -> None:
        """Add each image with its label: members of the same key, one after the other."""
        key, image, label = None, None, None
        ended = TarMember("", 0, 0, plain=True)
        with path.open("rb") as file:
            for member in itertools.chain(tar_members(path), [ended]):
                folder, slash, base = member.name.rpartition("/")
                stem, dot, ending = base.partition(".")
                if (this := folder + slash + stem) != key or member is ended:
                    if image is not None and label is not None:
                        self._add(path, image)
                        self.values.append(self._label(path, file, label))
                    elif image is not None or label is not None:
                        lacks = "image without .cls" if label is None else ".cls without image"
                        self.passed_over[lacks] += 1
                    key, image, label = this, None, None
                if member is ended:
                    break
                if f".{ending}" == _LABEL:
                    label = member
                elif is_image_name(f"{stem}{dot}{ending}", self.passed_over):
                    if image is not None:
                        raise InputError(
                            f"{path}: {printable(this)} has two images, {printable(image.name)} "
                            f"and {printable(member.name)}"
                        )
                    image = member

    def _label(self, path: Path, file: BinaryIO, member: TarMember) -> int:
        file.seek(member.offset)
        text = file.read(min(member.size, _LONGEST + 1))
        if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
            raise InputError(
                f"{path}: {printable(member.name)} should have the number of an identity, and "
                f"has {text[:20]!r}"
            )
        return int(text)


def _has_labels(path: Path) -> bool:
    """Whether a tar is a shard: the first members of one have a label among them."""
    members = itertools.islice(tar_members(path), _FIRST_MEMBERS)
    return any(member.name.endswith(_LABEL) for member in members)
