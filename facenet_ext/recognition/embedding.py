"""Embeds a folder of images in constant memory; a killed call can be continued."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facenet_ext._defaults import EMBEDDING_BATCH
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_csv, write_json, writing
from facenet_ext.common.text import counted, printable, read_text
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, read_image
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.recognition.store import (
    EMBEDDINGS,
    STORE,
    ModelName,
    StoredEmbeddings,
    finish_store,
    read_embeddings,
)

UNREADABLE = "unreadable.csv"
_PARTS = ".unfinished"


def embed_images(
    module: Embedder,
    model: ModelName,
    images: ImageList,
    output: Path,
    *,
    stop_at_unreadable: bool = False,
    batch: int = EMBEDDING_BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> StoredEmbeddings:
    """Embed images into a folder.

    Each batch is written to disk when it is done, so after a kill the same call continues behind
    the last finished batch. Images that cannot be read are left out and listed in
    ``unreadable.csv``.

    Args:
        module: the embedder, in evaluation mode.
        model: its name.
        images: what to embed; see :func:`list_tree`.
        output: the folder of the embeddings: see :func:`facenet_ext.recognition.read_embeddings`.
        stop_at_unreadable: give up at the first image that cannot be read.
        batch: images embedded at once.
        progress: called with how many images are done, and how many there are.

    Returns:
        The :class:`StoredEmbeddings`.

    Raises:
        InputError: no image can be read, or the folder was begun with other images or another
            model, or cannot be written to.
    """
    described = {
        "model": dataclasses.asdict(model),
        "images": len(images),
        "listed": images.fingerprint,
    }
    finished = _finished(output, described)
    if finished is not None:
        return finished
    with _alone(output / _PARTS):
        finished = _finished(output, described)  # another command may have just finished it
        if finished is not None:
            return finished
        parts = _Parts(output / _PARTS, described, module.network.embedding_dim)
        _embed_rest(module, model, images, parts, stop_at_unreadable, batch, progress)
        if not parts.rows:
            first = next(iter(parts.unreadable.values()))
            raise InputError(
                f"none of {counted(len(images), 'image')} can be read; {images.path(0)}: {first}"
            )
        kept = [at for at in range(len(images.ids)) if at not in parts.unreadable]
        ids, identities = ([names[at] for at in kept] for names in (images.ids, images.identities))
        with writing(output, ""):
            listed = sorted(parts.unreadable.items())
            lines = [(printable(images.ids[at]), " ".join(why.split())) for at, why in listed]
            if lines:
                write_csv(output / UNREADABLE, [("image", "reason"), *lines])
            else:
                (output / UNREADABLE).unlink(missing_ok=True)
            parts.join(output / EMBEDDINGS)
            finish_store(output, ids, identities, model, described)
        shutil.rmtree(parts.folder, ignore_errors=True)
    return read_embeddings(output)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock an unfinished folder against other processes; the lock ends with this process."""
    with writing(folder.parent, ""):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder.parent}: another command is embedding into it; wait for its end"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _finished(output: Path, described: dict[str, Any]) -> StoredEmbeddings | None:
    """Return the embeddings if an earlier call has finished them, else None."""
    if not (output / STORE).is_file():
        return None
    stored = read_embeddings(output)
    entries = json.loads(read_text(output / STORE))
    if any(entries.get(name) != value for name, value in described.items()):
        raise InputError(
            f"{output}: holds the embeddings of other images or of another model; "
            "choose another folder"
        )
    return stored


def _embed_rest(
    module: Embedder,
    model: ModelName,
    images: ImageList,
    parts: _Parts,
    stop_at_unreadable: bool,
    batch: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    count, names = len(images), images.ids
    options = module.options.data

    def read(position: int) -> Tensor | str:
        try:
            names[position].encode("utf-8")
            if any(end in names[position] for end in "\n\r"):
                return "its name has a line break"
            return read_image(images.path(position), options.image_size, options.channels)
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        except UnreadableImageError as error:
            return str(error).removeprefix(f"{images.path(position)}: ")

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        waiting = list(pool.map(read, _range(parts.done, batch, count)))
        while parts.done < count:
            if progress is not None:
                progress(parts.done, count)
            decoded, first = waiting, parts.done
            # The next batch is read while this one is embedded.
            reading = pool.map(read, _range(first + batch, batch, count))
            errors = {first + at: e for at, e in enumerate(decoded) if isinstance(e, str)}
            if errors and stop_at_unreadable:
                position, error = next(iter(errors.items()))
                raise InputError(f"{images.path(position)}: cannot be read ({error})")
            pixels = [image for image in decoded if isinstance(image, Tensor)]
            embeddings = torch.empty(0, module.network.embedding_dim)
            if pixels:
                embeddings = module.embed(torch.stack(pixels), model.views)
            with writing(parts.folder.parent, ""):
                parts.add(embeddings, len(decoded), errors)
            waiting = list(reading)
    if progress is not None:
        progress(count, count)


def _range(first: int, count: int, end: int) -> range:
    return range(min(first, end), min(first + count, end))


class _Parts:
    """The finished rows of an unfinished folder, and how many images they cover.

    Args:
        folder: the folder of the unfinished files.
        described: the model and the images, to be compared when a call continues.
        dim: length of a row.

    Attributes:
        done: how many images were tried.
        rows: how many of them are embedded.
        unreadable: the positions of the others, each with the reason.
    """

    def __init__(self, folder: Path, described: dict[str, Any], dim: int) -> None:
        self.folder = folder
        self.described = described
        self.dim = dim
        self.done = self.rows = 0
        self.unreadable: dict[int, str] = {}
        if self._state.is_file():
            self._continue()

    @property
    def _state(self) -> Path:
        return self.folder / "progress.json"

    @property
    def _file(self) -> Path:
        return self.folder / "rows.f32"

    def _continue(self) -> None:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            described = {name: state[name] for name in self.described}
            done, rows = int(state["done"]), int(state["rows"])
            unreadable = {int(position): why for position, why in state["unreadable"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # the file is damaged: begin anew
        if described != self.described:
            raise InputError(
                f"{self.folder.parent}: was begun with other images or another model; "
                "give the same to go on, or choose another folder"
            )
        if self._file.is_file() and self._file.stat().st_size >= rows * self.dim * 4:
            self.done, self.rows, self.unreadable = done, rows, unreadable

    def add(self, embeddings: Tensor, tried: int, unreadable: dict[int, str]) -> None:
        """Write the rows of a batch, and then how far they go."""
        with self._file.open("r+b" if self._file.is_file() else "w+b") as file:
            file.truncate(self.rows * self.dim * 4)  # drop what a killed call had begun
            file.seek(0, os.SEEK_END)
            file.write(embeddings.contiguous().numpy().tobytes())
        self.done += tried
        self.rows += len(embeddings)
        self.unreadable |= unreadable
        state = {"done": self.done, "rows": self.rows, "unreadable": self.unreadable}
        write_json(self._state, self.described | state)

    def join(self, path: Path) -> None:
        """Write all rows as an .npy file, without reading them into memory."""
        header = io.BytesIO()
        shape = (self.rows, self.dim)
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        unfinished = path.with_name(f".{path.name}")
        with self._file.open("rb") as rows, unfinished.open("wb") as file:
            file.write(header.getvalue())
            shutil.copyfileobj(rows, file)
        unfinished.replace(path)
