"""A zip archive of ``<identity>/<image>`` as an image set."""

from __future__ import annotations

import struct
import zipfile
import zlib
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.text import printable
from facenet_ext.data.image_list import is_image_name
from facenet_ext.data.sets.files import MOST_BYTES, Files, Stamp, stamp
from facenet_ext.data.sets.index import Index, cached_index
from facenet_ext.data.sets.indexed import (
    IndexedSet,
    by_folder,
    fingerprint_of,
    inner_name,
    is_pairs,
)
from facenet_ext.data.sets.tar import unsafe

__all__ = ["ZipSet", "open_zip"]

_LOCAL = struct.Struct("<4s5H3L2H")  # what precedes a member's name and bytes
_UTF8 = 0x800
_LONGEST = 1000
_MARK = b"PK\x03\x04"
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


class ZipSet(IndexedSet):
    """Images in a zip archive."""

    kind = "zip archive"

    def __init__(self, root: Path, index: Index) -> None:
        super().__init__(root, index)
        self._files = Files([root], [Stamp(*index.facts["stamp"])])

    def name(self, row: int) -> str:
        """Return ``<identity>/<image>``."""
        offset = int(self.index["offsets"][row])
        head = self._files.read(0, offset, _LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(_MARK):
            return f"member at byte {offset}"
        flags, length = _LOCAL.unpack(head)[2], _LOCAL.unpack(head)[-2]
        name = self._files.read(0, offset + _LOCAL.size, min(length, _LONGEST))
        text = name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        return inner_name(text, int(self.index.facts["depth"]))

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            InputError: it is damaged.
        """
        offset, stored, size, crc = (
            int(self.index[name][row]) for name in ("offsets", "stored", "sizes", "checks")
        )
        head = self._files.read(0, offset, _LOCAL.size)
        if len(head) == _LOCAL.size and head.startswith(_MARK):
            *_, name, more = _LOCAL.unpack(head)
            content = self._files.read(0, offset + _LOCAL.size + name + more, stored)
            if not self.index["deflated"][row]:
                content = content[:size]
            else:
                try:
                    content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size)
                except zlib.error:
                    content = b""
            if len(content) == size and zlib.crc32(content) == crc:
                return content
        raise InputError(f"{self.root}: {printable(self.name(row))} is damaged")


def open_zip(path: Path) -> ZipSet:
    """Open a zip archive of ``<identity>/<image>``.

    Raises:
        InputError: it is damaged or unsafe, encrypted, or holds no images.
    """
    one = stamp(path)
    fingerprint = fingerprint_of(ZipSet.kind, [(path.name, one)])
    index = cached_index(
        (ZipSet.kind, path.resolve()),
        lambda old: old.fingerprint == fingerprint,
        lambda: _index(path, one, fingerprint),
    )
    return ZipSet(path, index)


def _index(path: Path, one: Stamp, fingerprint: str) -> Index:
    passed_over: Counter[str] = Counter()
    names: list[str] = []
    numbers = {
        "offsets": array("Q"),
        "stored": array("L"),
        "sizes": array("L"),
        "checks": array("L"),
        "deflated": array("B"),
    }
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # errors of many kinds: the file may hold anything
        raise InputError(
            f"{path}: is no zip archive, or a damaged one ({one_line(error)})"
        ) from None
    for member in members:
        if member.filename.endswith("/") or not is_image_name(member.filename, passed_over):
            continue
        called = f"{path}: {printable(member.filename)}"
        if unsafe(member.filename):
            raise InputError(f"{called} leads out of its folder")
        if member.flag_bits & 1:
            raise InputError(f"{called} is encrypted; make the archive without a password")
        if member.compress_type not in (_STORED, _DEFLATED):
            raise InputError(f"{called} is compressed by an unusual method; use deflate, or none")
        if max(member.file_size, member.compress_size) > MOST_BYTES:
            raise InputError(f"{called} has more than {MOST_BYTES:,} bytes")
        if not 0 <= member.header_offset <= one.size - member.compress_size:
            raise InputError(f"{called} lies behind the file's end: it is cut off, or damaged")
        names.append(member.filename)
        fields = (
            member.header_offset,
            member.compress_size,
            member.file_size,
            member.CRC,
            member.compress_type == _DEFLATED,
        )
        for column, value in zip(numbers.values(), fields, strict=True):
            column.append(value)
    order, depth, columns = by_folder(names, passed_over, str(path))
    kinds = {"offsets": np.uint64, "deflated": np.bool_}
    for name, column in numbers.items():
        values: NDArray[Any] = np.array(column, kinds.get(name, np.uint32))
        columns[name] = values[order]
    facts = {
        "fingerprint": fingerprint,
        "stamp": one,
        "depth": depth,
        "pairs": any(is_pairs(member.filename) for member in members),
        "passed_over": dict(passed_over),
        "bytes": int(columns["sizes"].sum(dtype=np.int64)),
    }
    return Index(columns, facts)
