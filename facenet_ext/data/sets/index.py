"""Indices of image sets: columns in one file of the cache, mapped by all processes of a machine."""

from __future__ import annotations

import contextlib
import json
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from facenet_ext._files import lock, replacing
from facenet_ext.common.errors import InputError
from facenet_ext.data.unpacking import in_cache

__all__ = ["Index", "TextList", "Texts", "cached_index", "text_columns"]

_MAGIC = b"facenet_ext index 1\n"
_ALIGNED = 64


class Texts(Sequence[str]):
    """Texts that lie one after the other in an array of bytes.

    Args:
        content: uint8, the texts in UTF-8; bytes that are not UTF-8 stay as they are.
        ends: ``[N]`` integers, where each text ends.

    Example:
        >>> columns = text_columns("who", ["Ann", "Zoë", ""])
        >>> texts = Texts(columns["who.bytes"], columns["who.ends"])
        >>> list(texts), texts[-2], texts[:2]
        (['Ann', 'Zoë', ''], 'Zoë', ['Ann', 'Zoë'])
    """

    def __init__(self, content: NDArray[np.uint8], ends: NDArray[Any]) -> None:
        self._content, self._ends = content, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        begin = int(self._ends[at - 1]) if at else 0
        return self._content[begin : int(self._ends[at])].tobytes().decode(**_DECODING)


_DECODING: dict[str, str] = {"encoding": "utf-8", "errors": "surrogateescape"}


class TextList:
    """Texts that are added one by one, in a few bytes more than they have."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._content, self._ends = bytearray(), array("Q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text."""
        self._content += text.encode(**_DECODING)
        self._ends.append(len(self._content))

    def texts(self) -> Texts:
        """Return what was added."""
        columns = self.columns("")
        return Texts(columns[".bytes"], columns[".ends"])

    def columns(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the two columns of :class:`Texts`: ``<name>.bytes`` and ``<name>.ends``."""
        kind = np.uint32 if len(self._content) < 2**32 else np.uint64
        return {
            f"{name}.bytes": np.frombuffer(bytes(self._content), np.uint8),
            f"{name}.ends": np.array(self._ends, kind),
        }


def text_columns(name: str, texts: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the two columns of :class:`Texts`: ``<name>.bytes`` and ``<name>.ends``."""
    return TextList(texts).columns(name)


class Index:
    """What is known of the images of a set: columns of numbers, one row an image, and facts.

    Pickled, it is the name of its file.

    Args:
        columns: arrays.
        facts: what JSON can hold; ``"fingerprint"`` is among them.
        path: the file that the columns are mapped to, if there is one.
    """

    def __init__(
        self, columns: Mapping[str, NDArray[Any]], facts: dict[str, Any], path: Path | None = None
    ) -> None:
        self.columns, self.facts, self.path = dict(columns), facts, path
        for column in self.columns.values():
            column.flags.writeable = False

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[Any, ...]]:
        if self.path is not None:
            return _again, (self.path, self.fingerprint)
        return Index, (self.columns, self.facts)

    @property
    def fingerprint(self) -> str:
        """Changes where the set does."""
        return str(self.facts["fingerprint"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def texts(self, name: str) -> Texts:
        """Return what :func:`text_columns` made columns of."""
        return Texts(self.columns[f"{name}.bytes"], self.columns[f"{name}.ends"])

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self.columns.values())


def cached_index(
    about: object, is_current: Callable[[Index], bool], build: Callable[[], Index]
) -> Index:
    """Return the index of a set: that in the cache if it is still true, else a new one.

    If several processes need the index at once, one of them builds it and the others wait.

    Args:
        about: what the set is, for the name of the file; its text counts.
        is_current: whether an index from the cache is still true.
        build: makes a new one.
    """
    path = in_cache("indices", repr(about)).with_suffix(".index")
    old = _mapped(path)
    if old is not None and is_current(old):
        return old
    with _locked(path):
        old = _mapped(path)  # another process may have built it meanwhile
        if old is not None and is_current(old):
            return old
        new = build()
        if old is not None and old.facts == new.facts:
            return old
        try:
            _write(path, new)
        except OSError:  # the cache cannot be written to: the index stays in memory
            return new
        return _mapped(path) or new


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time in, where the file system has locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.with_suffix(".lock")
            stack.enter_context(lock(file, wait=True))
            # A process that waits for the removed file builds the index too: the same one.
            stack.callback(file.unlink, missing_ok=True)
        yield


def _write(path: Path, index: Index) -> None:
    """Write an index: a line, the length of the header, the header, and the columns."""
    placed, at = {}, 0
    for name, column in index.columns.items():
        placed[name] = [column.dtype.str, len(column), at]
        at += -(-column.nbytes // _ALIGNED) * _ALIGNED
    header = json.dumps({"facts": index.facts, "columns": placed}).encode()
    head = _MAGIC + len(header).to_bytes(8, "little") + header
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(head.ljust(_aligned(len(head)), b"\0"))
        for column in index.columns.values():
            file.write(np.ascontiguousarray(column).data)
            file.write(bytes(-column.nbytes % _ALIGNED))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _mapped(path: Path) -> Index | None:
    """Map an index to its file; None where there is none, or a damaged one."""
    try:
        with path.open("rb") as file:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = len(_MAGIC) + 8
        length = int.from_bytes(whole[len(_MAGIC) : start], "little")
        if whole[: len(_MAGIC)] != _MAGIC or length > len(whole):
            return None
        header = json.loads(whole[start : start + length])
        begin = _aligned(start + length)
        columns = {
            name: np.frombuffer(whole, kind, count, begin + at)
            for name, (kind, count, at) in header["columns"].items()
        }
        return Index(columns, header["facts"], path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _again(path: Path, fingerprint: str) -> Index:
    """Map an index in another process."""
    index = _mapped(path)
    if index is None or index.fingerprint != fingerprint:
        raise InputError(f"{path}: has changed since the set was opened; start the command again")
    return index
