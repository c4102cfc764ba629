"""Embeds the examples of a run, batch by batch. The processes of the run divide the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext._ranks import Ranks
from facenet_ext.data.examples import Examples
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.models.network import evaluating

__all__ = ["embed_examples", "embed_to_file", "rows_of_examples"]

_BATCH = 256


def embed_examples(
    embedder: Embedder,
    examples: Examples,
    rows: NDArray[np.int64] | None = None,
    views: str = "all",
    *,
    substitutes: bool = False,
) -> Iterator[Tensor]:
    """Embed examples in order.

    Each process embeds one batch of several. The batches do not depend on the number of processes,
    since a network's rounding depends on how many examples it embeds at once.

    Args:
        embedder: in evaluation mode.
        examples: what to embed.
        rows: which of them, and in what order; None for all.
        views: see :meth:`.Embedder.embed`.
        substitutes: embed the image that takes the place of an unreadable one. Otherwise its row is
            NaN.

    Yields:
        [B, D] float32 on the CPU, the embeddings of the next rows; every process gets all of them.

    Example:
        >>> from facenet_ext.embedding.options import ModelOptions, Options
        >>> options = Options(model=ModelOptions(width=8, embedding_dim=16))
        >>> images = Examples(torch.zeros(300, 1, 96, 96, dtype=torch.uint8), torch.arange(300))
        >>> embedder = Embedder(options, images.shape).eval()
        >>> [len(part) for part in embed_examples(embedder, images, np.arange(0, 300, 100))]
        [3]
    """
    dim = embedder.network.embedding_dim if views == "network" else embedder.embedding_dim
    rows = np.arange(len(examples)) if rows is None else rows
    return rows_of_examples(
        lambda values: embedder.embed(values, views), dim, examples, rows, substitutes=substitutes
    )


def rows_of_examples(
    function: Callable[[Tensor], Tensor],
    dim: int,
    examples: Examples,
    rows: NDArray[np.int64],
    *,
    substitutes: bool = False,
) -> Iterator[Tensor]:
    """Apply a function to examples in order, as :func:`embed_examples` applies a model.

    Args:
        function: returns ``[B, dim]`` of ``[B, ...]`` examples, B up to 256.
        dim: see there.
        examples: what to apply it to.
        rows: see :func:`embed_examples`.
        substitutes: see there.

    Yields:
        [B, dim] float32 on the CPU, of the next rows; every process gets all of them.
    """
    ranks = Ranks.of()
    step = _BATCH * ranks.size
    starts = range(_BATCH * ranks.rank, _BATCH * ranks.rank + len(rows), step)
    own = (rows[start : start + _BATCH].tolist() for start in starts)
    for batch in examples.batches(own, copy=False):
        results = torch.empty(0, dim)
        if len(batch.values):
            results = function(batch.values)
            if not substitutes:
                results[~batch.readable.cpu()] = torch.nan
        yield torch.cat(ranks.all_gather_rows(results)).cpu()


def embed_to_file(
    embedder: Embedder,
    examples: Examples,
    rows: NDArray[np.int64],
    path: Path,
    progress: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Embed examples by the network alone, one pass each, into a file.

    Triplets are mined of these: the loss sees what the network returns, without the head.

    Args:
        embedder: put into evaluation mode and back.
        examples: what to embed.
        rows: which of them, and in what order.
        path: the .npy file.
        progress: called with how many are done, and how many there are.

    Returns:
        [len(rows), D], mapped to the file, which all processes reach.
    """
    ranks = Ranks.of()
    unfinished = path.with_name(f".{path.name}")
    file = None
    if ranks.rank == 0:
        shape = (len(rows), embedder.network.embedding_dim)
        file = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
    done = 0
    with evaluating(embedder):
        for part in embed_examples(embedder, examples, rows, "network", substitutes=True):
            if file is not None:
                file[done : done + len(part)] = part.numpy()
            done += len(part)
            progress(done, len(rows))

    def finish() -> None:
        if file is not None:
            file.flush()
        unfinished.replace(path)

    ranks.first(finish)
    stored: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return stored
