"""Embeddings on disk: a folder of plain files that says which model made them.

``embeddings.npy`` [N, D] float32, ``ids.txt`` and ``identities.txt`` with a line for each row, and
``store.json``, which is written last: where it is, the rest is whole. Nothing in them is executed
when they are read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext._files import replacing
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_json, write_text
from facenet_ext.common.text import read_lines

STORE = "store.json"
EMBEDDINGS = "embeddings.npy"
_IDS = "ids.txt"
_IDENTITIES = "identities.txt"
FORMAT = "facenet_ext embeddings, 1"


@dataclasses.dataclass(frozen=True)
class ModelName:
    """The model that made embeddings: it decides what they can be compared with.

    Attributes:
        network: its name, as ``--model`` of ``facenet train`` takes it.
        checkpoint: SHA-256 of the checkpoint's file.
        views: "all" where an image's embedding is the mean direction over its shifted and mirrored
            views, as in the run's own verification; "one" where it is one pass of the network.
        matches: SHA-256 of the checkpoint of an older model that this one was trained to match
            (``facenet harmonize``), or None.
    """

    network: str
    checkpoint: str
    views: str = "all"
    matches: str | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not isinstance(value, str) and not (name == "matches" and value is None):
                raise TypeError(f"{name}: expected a text, got {value!r}")
        if self.views not in ("all", "one"):
            raise ValueError(f"views: expected 'all' or 'one', got {self.views!r}")

    def __str__(self) -> str:
        views = "all views" if self.views == "all" else "one view"
        return f"{self.network} ({self.checkpoint[:12]}, {views})"

    def is_comparable(self, other: ModelName) -> bool:
        """Whether distances between embeddings of the two mean something."""
        of_one = self.checkpoint in (other.checkpoint, other.matches)
        return (of_one or other.checkpoint == self.matches) and self.views == other.views


@dataclasses.dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings, and which images and model they are of.

    Attributes:
        embeddings: [N, D] float32, mapped to its file.
        ids: a name for each row: the path of its image under the folder that was embedded.
        identities: the identity of each row: the name of its image's folder; "" where it is not
            known.
        model: the model that made them.
    """

    embeddings: NDArray[np.float32]
    ids: list[str]
    identities: list[str]
    model: ModelName

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def named(self) -> bool:
        """Whether every row's identity is known."""
        return all(self.identities)

    def check_named(self, source: object) -> None:
        """Check that every row's identity is known.

        Args:
            source: what the message calls these embeddings.

        Raises:
            InputError: one is not.
        """
        if not self.named:
            raise InputError(
                f"{source}: whose is {self.ids[self.identities.index('')]}? Put every image into a "
                "folder with the name of its identity"
            )


def write_embeddings(
    folder: Path, stored: StoredEmbeddings, more: dict[str, Any] | None = None
) -> None:
    """Write embeddings, whole or not at all.

    Args:
        folder: made where it is missing.
        stored: what to write.
        more: further entries of ``store.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / EMBEDDINGS) as unfinished, unfinished.open("wb") as file:
        np.save(file, stored.embeddings)
    finish_store(folder, stored.ids, stored.identities, stored.model, more)


def finish_store(
    folder: Path,
    ids: Sequence[str],
    identities: Sequence[str],
    model: ModelName,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the other files of a folder that has its ``embeddings.npy`` already."""
    write_text(folder / _IDS, "".join(f"{name}\n" for name in ids))
    write_text(folder / _IDENTITIES, "".join(f"{name}\n" for name in identities))
    described = {"format": FORMAT, "rows": len(ids), "model": dataclasses.asdict(model)}
    write_json(folder / STORE, (more or {}) | described)


def read_embeddings(folder: Path) -> StoredEmbeddings:
    """Read what :func:`write_embeddings` or ``facenet embed`` wrote; the rows stay on disk.

    Raises:
        InputError: the folder has no embeddings, or unfinished or damaged ones; the message names
            the file.
    """
    try:
        described = json.loads((folder / STORE).read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise ValueError(f"expected {FORMAT!r}, got {described['format']!r}")
        model = ModelName(**described["model"])
        rows = int(described["rows"])
        if rows < 1:
            raise ValueError("it has no rows")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder}: holds no embeddings ({STORE} is missing); make some with 'facenet embed'"
        ) from None
    except OSError as error:
        raise InputError(f"{folder / STORE}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{folder / STORE}: not that of embeddings ({error})") from None
    ids, identities = (_lines(folder / name, rows) for name in (_IDS, _IDENTITIES))
    return StoredEmbeddings(_matrix(folder / EMBEDDINGS, rows), ids, identities, model)


def check_one_model(**sets: StoredEmbeddings) -> None:
    """Check that sets of embeddings can be compared.

    Args:
        sets: the embeddings; a message calls each by its keyword, in capitals.

    Raises:
        InputError: distances between embeddings of two of their models mean nothing.
    """
    (first_name, first), *others = sets.items()
    for name, other in others:
        if not first.model.is_comparable(other.model):
            raise InputError(
                f"{first_name.upper()} was embedded with {first.model}, {name.upper()} with "
                f"{other.model}: distances between two models mean nothing; embed one of them "
                "anew, or train the new model to match the old one with 'facenet harmonize'"
            )


def _lines(path: Path, rows: int) -> list[str]:
    lines = read_lines(path)
    if len(lines) != rows:
        raise InputError(f"{path}: expected {rows} lines, got {len(lines)}; embed anew")
    return lines


def map_array(path: Path) -> NDArray[Any]:
    """Map an array to its file; nothing in the file is executed.

    Raises:
        InputError: it is not an ``.npy`` file of numbers.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # errors of many kinds: damaged, of Python objects
        raise InputError(f"{path}: not an .npy file of numbers ({error})") from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise InputError(f"{path}: not an .npy file of rows; save it with numpy.save")
    return array


def _matrix(path: Path, rows: int) -> NDArray[np.float32]:
    matrix = map_array(path)
    if matrix.dtype != np.float32 or matrix.ndim != 2:
        raise InputError(f"{path}: expected a float32 matrix; embed anew")
    if len(matrix) != rows:
        raise InputError(f"{path}: expected {rows} rows, got {len(matrix)}; embed anew")
    return matrix
