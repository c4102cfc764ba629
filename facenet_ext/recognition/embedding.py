"""Embeds a folder of images in constant memory; a killed call can be continued.

The images are divided into blocks, in their order. Each is a file of its own until all are done.
Several processes claim blocks, and the embeddings are the same with any number of them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facenet_ext._agreement import check_same
from facenet_ext._claims import Claims, claiming
from facenet_ext._defaults import EMBEDDING_BATCH
from facenet_ext._files import replacing
from facenet_ext._ranks import Ranks
from facenet_ext.common.blocks import Blocks, working_in_blocks
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import (
    write_bytes,
    write_csv,
    writing,
)
from facenet_ext.common.text import counted, printable, read_text
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, read_row
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.recognition.store import (
    EMBEDDINGS,
    STORE,
    ModelName,
    StoredEmbeddings,
    finish_store,
    read_embeddings,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

UNREADABLE = "unreadable.csv"


def embed_images(
    module: Embedder,
    model: ModelName,
    images: ImageList,
    output: Path,
    *,
    stop_at_unreadable: bool = False,
    batch: int = EMBEDDING_BATCH,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
) -> StoredEmbeddings:
    """Embed images into a folder.

    Each block of images, a batch or several, is written to disk when it is done, so after a kill
    the same call, in any number of processes, does no finished block again. Images that cannot be
    read are left out and listed in ``unreadable.csv``.

    Args:
        module: the embedder, in evaluation mode.
        model: its name.
        images: what to embed; see :func:`list_tree`.
        output: the folder of the embeddings: see :func:`facenet_ext.recognition.read_embeddings`.
        stop_at_unreadable: give up at the first image that cannot be read.
        batch: images embedded at once.
        progress: called with how many images are done, and how many there are.
        group: the processes that divide the blocks; all of them call it, with the same arguments,
            and reach ``output``. None: this process alone.

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
    ranks = Ranks.among(group)
    check_same(ranks, output=output, batch=batch, **described)
    with working_in_blocks(
        output,
        len(images),
        batch,
        described,
        ranks=ranks,
        is_finished=lambda: _finished(output, described) is not None,
        doing="embedding",
        others="other images or another model",
    ) as blocks:
        if blocks is not None:
            parts = _Parts(blocks, module.embedding_dim)
            work = _Work(module, model.views, images, parts, stop_at_unreadable, batch)
            before = ranks.number(blocks.done)
            with claiming(ranks) as claims:
                work.do(claims, before, progress)
            ranks.first(lambda: _join(parts, output, images, model, described))
    return read_embeddings(output)


def _join(
    parts: _Parts, output: Path, images: ImageList, model: ModelName, described: dict[str, Any]
) -> None:
    """Make of the blocks the finished folder."""
    unreadable = parts.unreadable()
    if len(unreadable) == len(images):
        raise InputError(
            f"none of {counted(len(images), 'image')} can be read; "
            f"{images.path(0)}: {next(iter(unreadable.values()))}"
        )
    kept = [at for at in range(len(images.ids)) if at not in unreadable]
    ids, identities = ([names[at] for at in kept] for names in (images.ids, images.identities))
    with writing(output, ""):
        if unreadable:
            lines = [
                (printable(images.ids[at]), " ".join(unreadable[at].split())) for at in unreadable
            ]
            write_csv(output / UNREADABLE, [("image", "reason"), *lines])
        else:
            (output / UNREADABLE).unlink(missing_ok=True)
        parts.join(output / EMBEDDINGS, len(kept))
        finish_store(output, ids, identities, model, described)
    parts.blocks.remove()


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


class _Work(NamedTuple):
    """What is done with each block."""

    module: Embedder
    views: str
    images: ImageList
    parts: _Parts
    stop_at_unreadable: bool
    batch: int

    def do(self, claims: Claims, before: int, progress: Callable[[int, int], None] | None) -> None:
        """Embed the blocks that this process claims, but for those that are finished.

        Args:
            claims: of the blocks.
            before: how many images were done before.
            progress: see :func:`embed_images`.
        """
        count, none = len(self.images), torch.empty(0, self.parts.dim)
        if progress is not None:
            progress(before, count)
        batches = self._batches(claims)
        embeddings: list[Tensor] = []  # of the block
        unreadable: dict[int, str] = {}
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, on this machine
        # Pillow decodes outside Python's lock.
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // processes)) as pool:

            def start() -> tuple[int, range, Iterable[Tensor | str]] | None:
                """Begin to read the next batch: while this one is embedded."""
                following = next(batches, None)
                return following and (*following, pool.map(self._read, following[1]))

            reading = start()
            while reading is not None:
                number, positions, images = reading
                decoded = list(images)
                reading = start()
                errors = {
                    at: why
                    for at, why in zip(positions, decoded, strict=True)
                    if isinstance(why, str)
                }
                if errors and self.stop_at_unreadable:
                    position, error = next(iter(errors.items()))
                    raise InputError(f"{self.images.path(position)}: cannot be read ({error})")
                unreadable |= errors
                pixels = [image for image in decoded if isinstance(image, Tensor)]
                if pixels:
                    embeddings.append(self.module.embed(torch.stack(pixels), self.views))
                block = self.parts.blocks.ranges[number]
                if positions.stop == block.stop:
                    with writing(self.parts.blocks.folder.parent, ""):
                        self.parts.add(number, torch.cat([none, *embeddings]), unreadable)
                    embeddings, unreadable = [], {}
                    done = before + claims.finish(len(block))
                    if progress is not None:
                        progress(done, count)

    def _batches(self, claims: Claims) -> Iterator[tuple[int, range]]:
        """The batches of the blocks to be embedded here, each with the number of its block."""
        for number, block in claims.of(self.parts.blocks.ranges):
            if not self.parts.blocks.is_done(number):
                for first in range(block.start, block.stop, self.batch):
                    yield number, range(first, min(first + self.batch, block.stop))

    def _read(self, position: int) -> Tensor | str:
        """Return an image, or why it cannot be read."""
        path, name = self.images.path(position), self.images.ids[position]
        options = self.module.options.data
        try:
            name.encode("utf-8")
            if any(end in name for end in "\n\r"):
                return "its name has a line break"
            return read_row(self.images, position, options.image_size, options.channels)
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        except UnreadableImageError as error:
            return str(error).removeprefix(f"{path}: ")


class _Parts:
    """The rows of the finished blocks.

    Args:
        blocks: of the images.
        dim: length of a row.
    """

    def __init__(self, blocks: Blocks, dim: int) -> None:
        self.blocks = blocks
        self.dim = dim

    def _rows(self, number: int) -> Path:
        return self.blocks.folder / f"{number:07d}.f32"

    def add(self, number: int, rows: Tensor, unreadable: dict[int, str]) -> None:
        """Write the rows of a block, and then that it is finished."""
        write_bytes(self._rows(number), rows.contiguous().numpy().tobytes())
        self.blocks.finish(number, {"unreadable": unreadable})

    def unreadable(self) -> dict[int, str]:
        """The positions of the images that are left out, in ascending order, with the reasons."""
        reasons: dict[int, str] = {}
        for facts in self.blocks.facts():
            reasons |= {int(position): why for position, why in facts["unreadable"].items()}
        return reasons

    def join(self, path: Path, rows: int) -> None:
        """Write all rows as an .npy file, without reading them into memory."""
        header = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.dim)}
        np.lib.format.write_array_header_1_0(header, described)
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            file.write(header.getvalue())
            for number in range(len(self.blocks.ranges)):
                with self._rows(number).open("rb") as block:
                    shutil.copyfileobj(block, file)
