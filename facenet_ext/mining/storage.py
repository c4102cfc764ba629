"""Writes mined triplets to a Parquet file, block by block, and goes on after an interruption.

Until all is done, each block is a file of its own in ``<path>.parts``, beside a description of what
is mined: an interrupted run that starts again does not search again for the blocks that are there.
Several processes divide the blocks among them, and the file is the same with any number of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray

from facenet_ext._agreement import check_same
from facenet_ext._claims import claiming
from facenet_ext._defaults import MINING_BLOCK, MINING_CHUNK
from facenet_ext._files import lock, replacing
from facenet_ext._ranks import Ranks
from facenet_ext._rule import TripletRule
from facenet_ext._types import Triplets
from facenet_ext.mining.search import (
    SEMIHARD,
    blocks,
    check_embeddings,
    check_rule,
    mine_block,
    most_pairs,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["describe", "fingerprint", "mine_to_parquet", "read_triplets"]

_SCHEMA = pa.schema(
    [
        ("anchor", pa.int64()),
        ("positive", pa.int64()),
        ("negative", pa.int64()),
        ("d_ap", pa.float32()),
        ("d_an", pa.float32()),
    ]
)
_SAMPLED_ROWS = 1024
_LOCK = "lock"
_OPTIONS = ("positives", "negatives", "margin", "within_margin", "distance")


def mine_to_parquet(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    path: Path,
    rule: TripletRule = SEMIHARD,
    *,
    block: int = MINING_BLOCK,
    chunk: int = MINING_CHUNK,
    device: torch.device | str = "cpu",
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
) -> int:
    """Mine triplets into a Parquet file; call it again after an interruption to go on.

    With several processes each claims a block, searches it, and claims the next one. A block that
    a killed process had claimed is searched by the next call, whatever its number of processes.

    Args:
        embeddings: ``[N, D]``, see :func:`facenet_ext.mining.mine`, as every argument not named
            here.
        labels: see there.
        path: the file, of the columns anchor, positive, negative (rows, int64), d_ap and d_an
            (float32), in the order of the blocks.
        rule: see there.
        block: see there.
        chunk: see there.
        device: see there.
        resume: go on where an interrupted call ended; else begin anew.
        progress: called with the anchors that are done and with how many there are, first with
            those that were done before.
        group: the processes that divide the blocks, see there. All of them reach ``path``.

    Returns:
        The number of triplets.

    Raises:
        ValueError: as there, or ``path`` was begun with other embeddings, labels or options, or
            is being written by another call.
        TypeError: as there.
        OSError: the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> embeddings = np.array([[0.0], [1.0], [-1.0], [1.5]], np.float32)
        >>> labels = np.array([0, 0, 1, 1])
        >>> with TemporaryDirectory() as folder:
        ...     mine_to_parquet(embeddings, labels, Path(folder, "triplets.parquet"))
        2

    Source: FaceNet, section 3.2 (offline generation of triplets).
    """
    ranks = Ranks.among(group)
    with ranks.together():
        check_rule(rule)
        check_embeddings(embeddings, labels)
        todo = blocks(labels, block, most_pairs(rule))
    described = describe(embeddings, labels, rule, block)
    check_same(ranks, **described)
    parts = path.with_name(path.name + ".parts")
    names = [f"{number:07d}.parquet" for number in range(len(todo))]
    anchors = sum(len(one.rows) for one in todo)
    with contextlib.ExitStack() as stack:

        def begin() -> int:
            present = stack.enter_context(_begun(parts, described, resume))
            return sum(
                len(one.rows) for one, name in zip(todo, names, strict=True) if name in present
            )

        before = ranks.number(ranks.first(begin))
        with claiming(ranks) as claims:
            if progress is not None:
                progress(before, anchors)
            for _, (one, name) in claims.of(zip(todo, names, strict=True)):
                if (parts / name).is_file():
                    continue
                mined = mine_block(embeddings, labels, one, rule, chunk=chunk, device=device)
                _write(parts / name, [_table(mined)])
                done = before + claims.finish(len(one.rows))
                if progress is not None:
                    progress(done, anchors)

        def join() -> int:
            count = _write(path, (pq.read_table(parts / name) for name in names))
            shutil.rmtree(parts)
            return count

        return ranks.number(ranks.first(join))


def read_triplets(path: Path) -> Triplets:
    """Read a file of triplets.

    Args:
        path: what :func:`mine_to_parquet` wrote.

    Returns:
        The :class:`Triplets`.

    Raises:
        ValueError: it is no such file.
    """
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not a file of mined triplets ({error})") from None
    return Triplets(*(torch.from_numpy(table[name].to_numpy().copy()) for name in _SCHEMA.names))


def _table(triplets: Triplets) -> pa.Table:
    columns = [field.float() if field.is_floating_point() else field for field in triplets]
    return pa.Table.from_arrays([pa.array(column.numpy()) for column in columns], schema=_SCHEMA)


def _write(path: Path, tables: Any) -> int:
    """Write tables to a file under another name and rename it; return how many rows."""
    count = 0
    with (
        replacing(path) as unfinished,
        pq.ParquetWriter(unfinished, _SCHEMA, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)
            count += table.num_rows
    return count


@contextlib.contextmanager
def _begun(parts: Path, description: dict[str, Any], resume: bool) -> Iterator[set[str]]:
    """Lock the folder of parts, and yield the names of those that are there."""
    parts.mkdir(parents=True, exist_ok=True)
    with lock(parts / _LOCK) as ours:
        if not ours:
            raise ValueError(f"{parts}: another call is mining into it; wait for its end")
        if not resume:
            for file in parts.iterdir():
                if file.name != _LOCK:
                    file.unlink()
        _open(parts, description)
        yield set(os.listdir(parts))


def _open(parts: Path, description: dict[str, Any]) -> None:
    """Describe what is mined, or check that the parts are of the same mining."""
    file = parts / "mining.json"
    if file.is_file():
        try:
            begun = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            begun = None
        if not isinstance(begun, dict):
            raise ValueError(f"{file}: damaged; remove {parts} to begin anew")
        differing = [name for name in description if begun.get(name) != description[name]]
        if differing:
            raise ValueError(
                f"{parts}: begun with another {differing[0]}: expected "
                f"{begun.get(differing[0])!r}, got {description[differing[0]]!r}; give the same to "
                "go on, or remove that folder to begin anew"
            )
        return
    with replacing(file) as unfinished:
        unfinished.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def describe(
    embeddings: NDArray[Any], labels: NDArray[Any], rule: TripletRule, block: int
) -> dict[str, Any]:
    """What mined triplets depend on: the options, the labels and a sample of the embeddings.

    Args:
        embeddings: ``[N, D]``
        labels: ``[N]``
        rule: how triplets are chosen.
        block: anchors that are searched for together.

    Returns:
        Data as JSON has it.
    """
    return {name: getattr(rule, name) for name in _OPTIONS} | {
        "block": block,
        "embeddings": fingerprint(embeddings),
        "labels": fingerprint(labels, len(labels)),
    }


def fingerprint(array: NDArray[Any], rows: int = _SAMPLED_ROWS) -> str:
    """A name for an array: its shape, its type, and a hash of so many rows, evenly spaced."""
    chosen = np.unique(np.linspace(0, max(0, len(array) - 1), rows).astype(np.int64))
    sample = np.ascontiguousarray(array[chosen[: len(array)]])
    hashed = hashlib.sha256(sample.tobytes()).hexdigest()[:16]
    return f"{list(array.shape)} {array.dtype} {hashed}"
