"""Writes an image set in another format; an interrupted call is continued."""

from __future__ import annotations

import io
import json
import re
import tarfile
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from facenet_ext._files import replacing
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import read_json, write_json, write_text, writing
from facenet_ext.common.text import printable
from facenet_ext.data.image_set import ImageSet
from facenet_ext.data.names import Format
from facenet_ext.data.sets.indexed import NAMES
from facenet_ext.data.sets.parquet import parquet_library
from facenet_ext.data.sets.records import encode_record

__all__ = ["write_set"]

STATE = ".unfinished.json"
_PART = 10_000
"""Images of a shard, and between two notes of how far a call is."""

_ROW_GROUP = 100
"""Images of a row group, as Hugging Face's datasets have."""

_EXACT = 2**24
"""Up to here each whole number is a float32, as InsightFace's keys are."""


def write_set(
    images: ImageSet,
    to: Path,
    form: Format,
    *,
    part: int = _PART,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an image set into a folder, in another format. No image is encoded again.

    Identities are numbered by their places in ``images.identities``. Where their names are not
    these numbers, ``identity_names.txt`` names them, in Parquet the metadata of the column. A call
    that was interrupted goes on when it is made again.

    Args:
        images: the set.
        to: the folder: a new one, or that of an unfinished call.
        form: ``"shards"`` (WebDataset), ``"rec"`` (InsightFace's), ``"parquet"`` or ``"folder"``.
        part: images of a shard or of a Parquet file.
        progress: called with how many images are written, and how many there are.

    Raises:
        InputError: the folder holds something else, or cannot be written to; an image cannot be
            read.
    """
    wanted = {"from": images.fingerprint, "format": form, "part": part}
    with writing(to, "`to` "):
        to.mkdir(parents=True, exist_ok=True)
        state = read_json(to / STATE)
        begun = all(state.get(key) == value for key, value in wanted.items())
        if not begun and any(to.iterdir()):
            raise InputError(
                f"`to` {to}: holds other files, or an unfinished set of other images; choose "
                "another folder"
            )
        if not begun:
            write_json(to / STATE, wanted)
    done = state.get("done", 0) if begun else 0
    writer: _Writer = _WRITERS[form](images, to, part, state.get("sizes", []) if begun else [])
    for begin in range(done, len(images), part):
        if progress is not None:
            progress(begin, len(images))
        rows = range(begin, min(begin + part, len(images)))
        with writing(to, "`to` "):
            sizes = writer.write(rows)
            write_json(to / STATE, wanted | {"done": rows.stop, "sizes": sizes})
    with writing(to, "`to` "):
        writer.finish()
        (to / STATE).unlink(missing_ok=True)
    if progress is not None:
        progress(len(images), len(images))


class _Writer(Protocol):
    def __init__(self, images: ImageSet, to: Path, part: int, sizes: list[int]) -> None: ...

    def write(self, rows: range) -> list[int]:
        """Write some rows, the next ones, and return the sizes of files that go on."""
        ...

    def finish(self) -> None:
        """Write what ends the set."""
        ...


def _write_names(images: ImageSet, to: Path) -> None:
    names = list(images.identities)
    if names != [str(number) for number in range(len(names))]:
        lines = (name.replace("\n", " ") for name in names)
        write_text(to / NAMES, "".join(f"{printable(line)}\n" for line in lines))


class _Shards:
    """WebDataset: ``shard-00000.tar`` and so on."""

    def __init__(self, images: ImageSet, to: Path, part: int, sizes: list[int]) -> None:
        self.images, self.to, self.part = images, to, part
        self.digits = max(5, len(str((len(images) - 1) // part)))

    def write(self, rows: range) -> list[int]:
        path = self.to / f"shard-{rows.start // self.part:0{self.digits}d}.tar"
        with (
            replacing(path) as unfinished,
            tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for row in rows:
                content = self.images.read(row)
                ending = _ending(content, self.images.name(row))
                _add(tar, f"{row:09d}{ending}", content)
                _add(tar, f"{row:09d}.cls", str(int(self.images.labels[row])).encode())
        return []

    def finish(self) -> None:
        _write_names(self.images, self.to)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class _Records:
    """InsightFace's ``train.rec``, ``train.idx`` and ``property``.

    If the images of each identity lie together, each identity has a record that names its images,
    and record 0 tells where these records are. Otherwise there are no such records, and record 0
    is an image. Readers take both.
    """

    def __init__(self, images: ImageSet, to: Path, part: int, sizes: list[int]) -> None:
        self.images, self.to = images, to
        labels = np.asarray(images.labels)
        self.starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
        grouped = len(self.starts) == len(images.identities)
        last = len(images) + len(images.identities) + 1
        self.first = 1 if grouped and last < _EXACT else 0  # key of the first image
        self.paths = [to / "train.rec", to / "train.idx"]
        self.sizes = sizes or [0, 0]

    def write(self, rows: range) -> list[int]:
        records, keys = bytearray(), list[str]()
        if self.first and not rows.start:
            end = self.first + len(self.images)
            self._add(records, keys, 0, (end, end + len(self.starts)), b"")
        for row in rows:
            label = int(self.images.labels[row])
            self._add(records, keys, self.first + row, (label,), self.images.read(row))
        return self._append(records, keys)

    def _add(
        self, records: bytearray, keys: list[str], key: int, labels: tuple[int, ...], image: bytes
    ) -> None:
        keys.append(f"{key}\t{self.sizes[0] + len(records)}\n")
        records += encode_record(key, labels, image)

    def _append(self, records: bytearray, keys: Iterable[str]) -> list[int]:
        """Append to both files; first cut off what a killed call left behind their whole parts."""
        for at, content in enumerate((bytes(records), "".join(keys).encode())):
            with self.paths[at].open("r+b" if self.sizes[at] else "wb") as file:
                file.truncate(self.sizes[at])
                file.seek(self.sizes[at])
                file.write(content)
            self.sizes[at] += len(content)
        return self.sizes

    def finish(self) -> None:
        before = list(self.sizes)
        if self.first:
            records, keys = bytearray(), list[str]()
            bounds = [*(self.starts + self.first).tolist(), self.first + len(self.images)]
            for number in range(len(self.starts)):
                key = bounds[-1] + number
                self._add(records, keys, key, (bounds[number], bounds[number + 1]), b"")
            self._append(records, keys)
        self.sizes = before
        _write_names(self.images, self.to)
        width, height = _size(self.images.read(0))
        write_text(self.to / "property", f"{len(self.images.identities)},{height},{width}")


class _Parquet:
    """Parquet as Hugging Face's ``datasets`` writes images: ``train-00000-of-00012.parquet``."""

    def __init__(self, images: ImageSet, to: Path, part: int, sizes: list[int]) -> None:
        self.images, self.to, self.part = images, to, part
        self.count = -(-len(images) // part)
        names = list(images.identities)
        features = {
            "image": {"_type": "Image"},
            "label": {"names": names, "_type": "ClassLabel"},
        }
        self.metadata = {"huggingface": json.dumps({"info": {"features": features}})}

    def write(self, rows: range) -> list[int]:
        parquet, arrow = parquet_library()
        schema = arrow.schema(
            [
                ("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])),
                ("label", arrow.int64()),
            ],
            metadata=self.metadata,
        )
        path = self.to / f"train-{rows.start // self.part:05d}-of-{self.count:05d}.parquet"
        with (
            replacing(path) as unfinished,
            parquet.ParquetWriter(unfinished, schema, compression="none") as file,
        ):
            for begin in range(rows.start, rows.stop, _ROW_GROUP):
                some = range(begin, min(begin + _ROW_GROUP, rows.stop))
                cells = [
                    {"bytes": self.images.read(row), "path": _base(self.images.name(row))}
                    for row in some
                ]
                labels = [int(self.images.labels[row]) for row in some]
                file.write_table(arrow.table({"image": cells, "label": labels}, schema=schema))
        return []

    def finish(self) -> None:
        pass


def _base(name: str) -> str:
    return printable(name.rpartition("/")[2])


class _Folder:
    """Files ``<identity>/<image>``."""

    def __init__(self, images: ImageSet, to: Path, part: int, sizes: list[int]) -> None:
        self.images, self.to = images, to
        self.folders = _folder_names(images.identities)

    def write(self, rows: range) -> list[int]:
        for row in rows:
            content, name = self.images.read(row), self.images.name(row)
            folder = self.to / self.folders[int(self.images.labels[row])]
            folder.mkdir(exist_ok=True)
            ending = _ending(content, name)
            base = _base(name)
            base = base if base.lower().endswith(ending) else base + ending
            path = folder / _safe(base)
            if path.exists() and path.read_bytes() != content:  # of another shard
                path = folder / f"{row:09d}{ending}"
            with replacing(path) as unfinished:
                unfinished.write_bytes(content)
        return []

    def finish(self) -> None:
        pass


def _safe(name: str) -> str:
    """Return a name that a file in a folder can have, whatever some data says."""
    plain = "".join("_" if c == "/" or unicodedata.category(c) == "Cc" else c for c in name)
    plain = re.sub(r"^[.\s]+|\s+$", "_", plain.encode("utf-8", "replace").decode())
    while len(plain.encode()) > 200:
        plain = plain[:-1]
    return plain or "_"


def _folder_names(names: Iterable[str]) -> list[str]:
    """Return a name for the folder of each identity, all of them different.

    Example:
        >>> _folder_names(["Ann", "../Ann", "a/b", "a_b", ""])
        ['Ann', '__Ann', 'a_b', 'a_b-1', '_']
    """
    taken: dict[str, None] = {}
    for name in names:
        folder, number = _safe(name), 0
        while folder in taken:
            number += 1
            folder = f"{_safe(name)}-{number}"
        taken[folder] = None
    return list(taken)


_ENDINGS = ((b"\xff\xd8\xff", (".jpg", ".jpeg")), (b"\x89PNG\r\n\x1a\n", (".png",)))


def _ending(content: bytes, name: str) -> str:
    r"""Return the ending of an image's file: by its content, or else by its name.

    Example:
        >>> _ending(b"\xff\xd8\xff...", "a.b"), _ending(b"", "x/a.PNG"), _ending(b"", "x/a")
        ('.jpg', '.png', '.jpg')
    """
    for mark, endings in _ENDINGS:
        if content.startswith(mark):
            return next((own for own in endings if name.lower().endswith(own)), endings[0])
    formats = Image.registered_extensions()
    own = Path(name).suffix.lower()
    if own in formats:
        return own
    try:
        with Image.open(io.BytesIO(content)) as file:
            form = file.format
    except Exception:  # errors of many kinds: it may be anything, and keeps an image's ending
        form = None
    return next((ending for ending, known in formats.items() if known == form), ".jpg")


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height of an image; zeros where it is damaged."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            return file.size
    except Exception:  # errors of many kinds: it may be anything
        return 0, 0


_WRITERS: dict[Format, Any] = {
    "shards": _Shards,
    "rec": _Records,
    "parquet": _Parquet,
    "folder": _Folder,
}
