"""InsightFace's ``.rec`` and ``.idx``: records as mxnet writes them."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.text import counted
from facenet_ext.data.sets.files import MOST_BYTES, Files, Stamp, stamp
from facenet_ext.data.sets.index import Index, cached_index
from facenet_ext.data.sets.indexed import (
    NAMES,
    IndexedSet,
    fingerprint_of,
    number_labels,
    read_identity_names,
)

__all__ = ["RecordSet", "encode_record", "open_records"]

MAGIC = 0xCED7230A
_MARK = MAGIC.to_bytes(4, "little")
_WORDS = struct.Struct("<II")  # the magic; the part and the length
_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_AT_ONCE = 65_536
"""Records whose first bytes are in memory at once."""

_SEEN = _WORDS.size + _HEADER.size + 4
"""First bytes of a record: up to the first of the labels that follow its header."""


class Record(NamedTuple):
    """The content of a record.

    Attributes:
        labels: one, or several.
        image: an encoded image; empty in a record of keys.
    """

    labels: NDArray[np.float32]
    image: bytes


class RecordSet(IndexedSet):
    """Images of a ``.rec``."""

    kind = "InsightFace .rec"

    def __init__(self, root: Path, index: Index) -> None:
        super().__init__(root, index)
        self._files = Files([root], [Stamp(*index.facts["stamp"])])
        self._offsets, self._lengths = index["offsets"], index["lengths"]
        self._keys = index["keys"]

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            InputError: the record is damaged.
        """
        where, length = int(self._offsets[row]), int(self._lengths[row])
        return read_record(self._files, where, int(self._keys[row]), length).image

    def name(self, row: int) -> str:
        """Return the identity and the record's key."""
        return f"{self.identities[int(self.labels[row])]}/{self._keys[row]:07d}"


def open_records(path: Path, progress: Callable[[int, int], None] | None = None) -> RecordSet:
    """Open a ``.rec`` with the ``.idx`` beside it.

    Args:
        path: of the ``.rec``.
        progress: called with how many records are indexed, and how many there are.

    Raises:
        InputError: a file is missing or damaged, or the two are not of one set.
    """
    listed = path.with_suffix(".idx")
    if not listed.is_file():
        raise InputError(
            f"{path}: {listed.name} is missing beside it, which says where its records begin"
        )
    names = path.with_name(NAMES)
    files = [path, listed, *([names] if names.is_file() else [])]
    stamps = [stamp(file) for file in files]
    fingerprint = fingerprint_of(
        RecordSet.kind, [(file.name, one) for file, one in zip(files, stamps, strict=True)]
    )
    index = cached_index(
        (RecordSet.kind, path.resolve()),
        lambda old: old.fingerprint == fingerprint,
        lambda: _index(path, listed, stamps[0], fingerprint, progress),
    )
    return RecordSet(path, index)


def _index(
    path: Path,
    listed: Path,
    at: Stamp,
    fingerprint: str,
    progress: Callable[[int, int], None] | None,
) -> Index:
    keys, offsets = _read_idx(listed)
    if not len(keys):
        raise InputError(f"{listed}: lists no records")
    last = int(offsets.max())
    if last + _WORDS.size + _HEADER.size > at.size:
        raise InputError(
            f"{path}: has {at.size:,} bytes, and {listed.name} lists a record at byte {last:,}: "
            "the file is cut off, or the other is not its own; copy both anew"
        )
    files = Files([path], [at])
    first = read_record(files, int(offsets[0]), int(keys[0]))
    # Record 0 may say which records are images.
    if keys[0] == 0 and len(first.labels) >= 2 and not first.image:
        images = (keys > 0) & (keys < float(first.labels[0]))
        keys, offsets = keys[images], offsets[images]
        if not len(keys):
            raise InputError(f"{path}: its record 0 says that it has no images")
    lengths, values, total = _look(files, keys, offsets, progress)
    columns: dict[str, NDArray[Any]] = {
        "offsets": offsets.astype(np.uint64),
        "lengths": lengths,
        "keys": keys.astype(np.uint32 if int(keys.max()) < 2**32 else np.uint64),
    }
    columns |= number_labels(values, read_identity_names(path.parent, values))
    return Index(columns, {"fingerprint": fingerprint, "stamp": list(at), "bytes": total})


def _read_idx(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read keys and offsets, in order of the keys."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy warns of an empty file
            table = np.loadtxt(path, np.int64, comments=None, ndmin=2, encoding="latin-1")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a list of keys and offsets ({one_line(error)})") from None
    if not table.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if table.shape[1] != 2 or bool((table < 0).any()):
        raise InputError(f"{path}: expected a key and an offset a line, both 0 or above")
    if not bool((table[1:, 0] > table[:-1, 0]).all()):
        table = table[np.argsort(table[:, 0], kind="stable")]
        twice = table[1:, 0] == table[:-1, 0]
        if twice.any():
            raise InputError(f"{path}: lists key {table[int(twice.argmax()), 0]} twice")
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def _look(
    files: Files,
    keys: NDArray[np.int64],
    offsets: NDArray[np.int64],
    progress: Callable[[int, int], None] | None,
) -> tuple[NDArray[np.uint32], NDArray[np.int64], int]:
    """Read the first bytes of all records.

    Returns:
        The length of each one's first part, the labels, and the bytes of all images.

    Raises:
        InputError: some are no records; the message names the first.
    """
    path = files.paths[0]
    size, total = files.stamps[0].size, 0
    lengths, values = np.empty(len(keys), np.uint32), np.empty(len(keys), np.int64)
    columns = np.arange(_SEEN)
    for begin in range(0, len(keys), _AT_ONCE):
        if progress is not None:
            progress(begin, len(keys))
        # Mapped anew, so that what was read before does not stay in this process's memory.
        content = np.memmap(path, np.uint8, "r")
        block = slice(begin, begin + _AT_ONCE)
        start = offsets[block]
        seen = content[np.minimum(start[:, None] + columns, size - 1)]
        magic, word, flag = (
            np.ascontiguousarray(seen[:, i : i + 4]).view("<u4")[:, 0] for i in (0, 4, 8)
        )
        part, length = word >> 29, word & (2**29 - 1)
        header = _HEADER.size + 4 * flag.astype(np.int64)
        wrong = (magic != MAGIC) | ((part != _WHOLE) & (part != _FIRST))
        wrong |= start + _WORDS.size + length > size
        wrong |= (part == _WHOLE) & (length < header)
        several = flag > 0
        label = np.ascontiguousarray(seen[:, 12:16]).view("<f4")[:, 0]
        label = np.where(several, np.ascontiguousarray(seen[:, -4:]).view("<f4")[:, 0], label)
        total += int(length[~wrong].sum(dtype=np.int64) - header[~wrong].sum())
        for row in np.flatnonzero((part == _FIRST) & ~wrong):  # the record has several parts
            record = read_record(files, int(start[row]), int(keys[begin + row]))
            label[row] = record.labels[0]
            total += len(record.image) - int(length[row]) + int(header[row])
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError(
                f"{path}: at byte {start[at]:,}, where key {keys[begin + at]} should be, is no "
                f"whole record; {counted(int(wrong.sum()), 'record')} of "
                f"{counted(len(start), 'record')} from there on are damaged, or the .idx is of "
                "another file; copy both anew"
            )
        odd = ~np.isfinite(label) | (label != np.trunc(label)) | (np.abs(label) > 2**31)
        if odd.any():
            at = int(odd.argmax())
            raise InputError(
                f"{path}: the record of key {keys[begin + at]} has label {label[at]:g}, which "
                "is no number of an identity"
            )
        lengths[block], values[block] = length, label.astype(np.int64)
    return lengths, values, total


def encode_record(key: int, labels: Sequence[float], image: bytes) -> bytes:
    """Return a record as mxnet writes it.

    Args:
        key: of the record.
        labels: one, of an image; two, of a record of keys.
        image: an encoded image, or nothing.

    Raises:
        InputError: the image is too large for a record.
    """
    several = len(labels) if len(labels) > 1 else 0
    payload = _HEADER.pack(several, 0.0 if several else labels[0], key, 0)
    payload += np.array(labels if several else [], "<f4").tobytes() + image
    if len(payload) >= 2**29:
        raise InputError(f"key {key}: has {len(image):,} bytes, and a record has {2**29:,} at most")
    parts, begin, at = [], 0, payload.find(_MARK)
    while at >= 0:  # the magic itself, at a multiple of 4, divides the record
        if at % 4 == 0:
            parts.append(payload[begin:at])
            begin = at + 4
        at = payload.find(_MARK, at + (4 if at % 4 == 0 else 1))
    parts.append(payload[begin:])
    kinds = [_FIRST, *[_MIDDLE] * (len(parts) - 2), _LAST] if len(parts) > 1 else [_WHOLE]
    return b"".join(
        _WORDS.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def read_record(files: Files, offset: int, key: int, length: int | None = None) -> Record:
    """Read one record.

    Args:
        files: the ``.rec`` alone.
        offset: of its first byte.
        key: what messages call it.
        length: bytes of its first part, where they are known.

    Raises:
        InputError: it is damaged, or cut off.
    """

    def damaged(why: str) -> InputError:
        return InputError(f"{files.paths[0]}: the record of key {key} at byte {offset:,} {why}")

    parts: list[bytes] = []
    at, total = offset, 0
    while True:
        content = files.read(0, at, _WORDS.size + (4096 if length is None else length))
        if len(content) < _WORDS.size:
            raise damaged("is cut off")
        magic, word = _WORDS.unpack_from(content)
        part, length = word >> 29, word & (2**29 - 1)
        if magic != MAGIC:
            raise damaged(
                "does not begin with the magic number" if at == offset else "has a damaged part"
            )
        if (part in (_WHOLE, _FIRST)) != (at == offset):
            raise damaged("begins in the middle of another" if at == offset else "has no last part")
        total += length
        if total > MOST_BYTES:
            raise damaged(f"has more than {MOST_BYTES:,} bytes")
        if len(content) < _WORDS.size + length:
            content = files.read(0, at, _WORDS.size + length)
        if len(content) < _WORDS.size + length:
            raise damaged("is cut off")
        parts.append(content[_WORDS.size : _WORDS.size + length])
        if part in (_WHOLE, _LAST):
            break
        at += _WORDS.size + length + -length % 4
        length = None
    payload = parts[0] if len(parts) == 1 else _MARK.join(parts)
    if len(payload) < _HEADER.size:
        raise damaged("is too short")
    flag, label, _, _ = _HEADER.unpack_from(payload)
    if not flag:
        return Record(np.array([label], np.float32), payload[_HEADER.size :])
    if _HEADER.size + 4 * flag > len(payload):
        raise damaged(f"should have {flag:,} labels, and is too short")
    labels = np.frombuffer(payload, "<f4", flag, _HEADER.size)
    return Record(labels, payload[_HEADER.size + 4 * flag :])
