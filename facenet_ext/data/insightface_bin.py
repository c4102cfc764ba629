"""InsightFace's ``.bin``: pairs of images to verify, in a pickle of which nothing is executed."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.text import counted

__all__ = ["BinImages", "BinPairs", "read_bin"]


class BinPairs(NamedTuple):
    """Pairs of images.

    Attributes:
        images: the content of the files: two for each pair, one after the other.
        same: whether the two of a pair are of one identity.
    """

    images: list[bytes]
    same: list[bool]


class BinImages:
    """The images of a ``.bin``, a set; see :class:`facenet_ext.data.image_set.ImageSet`.

    Args:
        path: of the file.
        pairs: what :func:`read_bin` returned.
    """

    kind = "InsightFace .bin"

    def __init__(self, path: Path, pairs: BinPairs) -> None:
        self.root, self._images = path, pairs.images
        self.labels = np.zeros(len(pairs.images), np.int64)
        self.identities: Sequence[str] = [""]

    @property
    def fingerprint(self) -> str:
        """A hash of all images."""
        hashed = hashlib.sha256()
        for image in self._images:
            hashed.update(len(image).to_bytes(8, "little") + image)
        return hashed.hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def read(self, row: int) -> bytes:
        """Return the content of an image's file."""
        return self._images[row]

    def name(self, row: int) -> str:
        """Return the pair, and which of its images this is."""
        return f"{row // 2:06d}{'ab'[row % 2]}"


def read_bin(path: Path) -> BinPairs:
    """Read a file of pairs.

    It is a pickle of a list of bytes and a list of booleans. An unpickler reads it that knows no
    operation but those, and stands in for the few types that such files name: no code of the file's
    choice runs.

    Raises:
        InputError: the file cannot be read, is damaged, or holds anything else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        images, same = loaded
        pairs = BinPairs([_bytes(image) for image in images], _booleans(same))
    except InputError as error:
        raise InputError(f"{path}: {error}; it is none of InsightFace's") from None
    except Exception as error:  # errors of many kinds: the file may hold anything
        raise InputError(
            f"{path}: is no file of pairs, or a damaged one ({one_line(error)})"
        ) from None
    if not pairs.same or len(pairs.images) != 2 * len(pairs.same):
        raise InputError(
            f"{path}: has {counted(len(pairs.images), 'image')} for "
            f"{counted(len(pairs.same), 'pair')}; it needs two each"
        )
    return pairs


def _bytes(value: Any) -> bytes:
    if isinstance(value, _Array):
        value = value.content("u1")
    if not isinstance(value, bytes):
        raise InputError(f"an image is a {type(value).__name__}, and not bytes")
    return value


def _booleans(values: Any) -> list[bool]:
    if isinstance(values, _Array):
        return [byte != 0 for byte in values.content("b1")]
    if not isinstance(values, (list, tuple)):
        raise InputError(f"its second part is a {type(values).__name__}, and no list")
    booleans = [value.value if isinstance(value, _Scalar) else value for value in values]
    if not all(isinstance(value, bool) for value in booleans):
        raise InputError("its second part is no list of booleans")
    return booleans


class _Type:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: object) -> None:
        """Forget the byte order: a byte has none."""


class _Array:
    """Stands in for a ``numpy.ndarray`` of bytes."""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, self._shape, self._type, _, self._content = state

    def content(self, kind: str) -> bytes:
        """Return the bytes of an array of bytes or of booleans, which has one dimension."""
        of = self._type.name if isinstance(self._type, _Type) else "object"
        if of != kind or not isinstance(self._content, (bytes, bytearray)):
            raise InputError(f"an array is of {of}, and not of {kind}")
        if self._shape != (len(self._content),):
            raise InputError(
                f"an array is of the shape {self._shape}, with {len(self._content):,} bytes"
            )
        return bytes(self._content)


class _Scalar:
    """Stands in for a ``numpy.bool``."""

    def __init__(self, kind: object, content: object) -> None:
        if not isinstance(kind, _Type) or kind.name != "b1" or not isinstance(content, bytes):
            raise InputError("a number is no boolean")
        self.value = any(content)


def _encode(text: object, encoding: object) -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise InputError("a text is encoded in an unusual way")
    return text.encode("latin1")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(content: object, kind: object, shape: object, *_: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, False, content))
    return array


def _no_bytes() -> bytes:
    """Stand in for ``bytes``, by which protocol 2 writes empty ones."""
    return b""


_KNOWN: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    **{
        (module, name): stand_in
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _Scalar))
    },
}

# fmt: off
_OPERATIONS = {
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK,
    pickle.DUP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT,
    pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINSTRING, pickle.SHORT_BINSTRING,
    pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.UNICODE,
    pickle.BINUNICODE,
    pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND,
    pickle.APPENDS, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET,
    pickle.LONG_BINGET, pickle.MEMOIZE, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE,
}
# fmt: on


class _Unpickler(pickle._Unpickler):
    """Unpickles lists of bytes and booleans.

    It is the one in Python: that in C would clear gigabytes for a large number of a memo.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: operation
        for code, operation in pickle._Unpickler.dispatch.items()
        if bytes([code]) in _OPERATIONS
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a type; nothing is imported."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise InputError(f"names {module}.{name}, which no such file needs") from None

    def _build(self) -> None:
        """Set the state of an array or a type, and of nothing else."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, (_Array, _Type)):
            raise InputError(f"sets the state of a {type(target).__name__}")
        target.__setstate__(state)

    dispatch[pickle.BUILD[0]] = _build
