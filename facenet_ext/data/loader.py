"""Batches of images, made ahead of time by other processes."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import signal
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.data.decoding import DecodedRows, LazyImages

if TYPE_CHECKING:
    from facenet_ext.data.examples import Examples

__all__ = ["Batch", "batches", "how_many_workers"]

_AHEAD, _SPARE = 2, 2
"""Batches that each worker makes ahead, and batches of memory that it has besides."""

_T = TypeVar("_T")

_MOST_WORKERS = 16
_SHARED = "/dev/shm"
"""Where Linux keeps the memory through which workers hand over their batches."""


class Batch(NamedTuple):
    """Some examples.

    Attributes:
        values: ``[B, ...]``.
        labels: ``[B]`` int64.
        readable: ``[B]`` bool; where an image cannot be read, another one stands in its place.
    """

    values: Tensor
    labels: Tensor
    readable: Tensor


def how_many_workers(wanted: int | None, cores: int) -> int:
    """Return how many processes decode.

    Args:
        wanted: what a person asked for; None for as many as are useful.
        cores: how many cores this process may use.
    """
    return min(cores, _MOST_WORKERS) if wanted is None else wanted


def batches(
    examples: Examples, parts: Iterable[Sequence[int]], pin: bool = False, copy: bool = True
) -> Iterator[Batch]:
    """Yield batches in order. Images that are not in memory are decoded ahead, by workers.

    A batch is a function of its rows, whatever the number of workers.

    Args:
        examples: what to cut from.
        parts: the rows of each batch.
        pin: into memory from which a GPU can copy without waiting.
        copy: false saves the time for a copy, but a batch is lost when the next is asked for.

    Raises:
        InputError: a worker was killed, or too many images cannot be read.
    """
    values = examples.values
    if isinstance(values, Tensor):
        for part in parts:
            rows = torch.as_tensor(part, dtype=torch.int64)
            yield Batch(
                values[rows], examples.labels[rows], torch.ones(len(rows), dtype=torch.bool)
            )
        return
    asked: deque[Sequence[int]] = deque()
    rest = iter(parts)
    head = list(itertools.islice(rest, 1))  # its length tells how large a batch is
    workers, ahead = _fitting(values, len(head[0]) if head else 0)
    mapped: deque[Tensor] = deque(maxlen=workers * (ahead + _SPARE))
    try:
        with warnings.catch_warnings():  # torch warns of more workers than cores
            warnings.simplefilter("ignore")
            loader = DataLoader(
                _Rows(values, ahead + _SPARE),
                batch_sampler=_noting(itertools.chain(head, rest), asked),  # type: ignore[arg-type]
                num_workers=workers,
                prefetch_factor=ahead if workers else None,
                collate_fn=_as_is,
                worker_init_fn=_begin,
                pin_memory=pin,
            )
            loaded = iter(loader)
        for pixels, shown, errors in loaded:
            values.tell(errors)
            rows = torch.from_numpy(shown)
            readable = rows == torch.as_tensor(asked.popleft(), dtype=torch.int64)
            labels = examples.labels[rows]
            if pin:  # the loader has copied it into pinned memory
                yield Batch(pixels, labels.pin_memory(), readable.pin_memory())
            elif not workers:
                yield Batch(pixels, labels, readable)
            else:
                mapped.append(pixels)  # keeps the memory mapped: a later batch comes there too
                yield Batch(pixels.clone() if copy else pixels, labels, readable)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that decodes images has ended ({str(error).splitlines()[0]}): it may have "
            f"lacked memory; the run can be continued, with fewer `workers` than {workers} or a "
            "larger /dev/shm"
        ) from error


def _noting(parts: Iterable[_T], asked: deque[_T]) -> Iterator[_T]:
    """Yield the rows of batches, and note them for when the batch is there."""
    for part in parts:
        asked.append(part)
        yield part


def _fitting(values: LazyImages, rows: int) -> tuple[int, int]:
    """Return how many workers, each with how many batches ahead, the shared memory has room for."""
    wanted = values.workers
    try:
        free = shutil.disk_usage(_SHARED).free
    except OSError:  # not Linux
        return wanted, _AHEAD
    most = free // 2 // max(1, rows * math.prod(values.shape[1:]))
    workers = min(wanted, most // (1 + _SPARE))
    if workers < wanted:
        values.say(
            f"{_SHARED} has room for {most} batches: {counted(workers, 'worker')} instead of "
            f"{wanted}; enlarge it, as by docker run --shm-size 8g"
        )
    return workers, max(1, min(_AHEAD, most // max(1, workers) - _SPARE))


class _Rows(Dataset[Any]):
    """What a worker does: it reads the rows of a batch into shared memory.

    It has some batches of memory and uses them by turns. To get new memory from the system for each
    batch takes a third of the time of decoding.

    Args:
        values: what to read.
        turns: how many batches it has memory for. Memory is used again when so many other batches
            have been asked for: the reader has then copied what was in it.
    """

    def __init__(self, values: LazyImages, turns: int) -> None:
        self.values, self.turns = values, turns
        self._memory: list[Tensor] = []
        self._turn = 0

    def __getitems__(self, part: Sequence[int]) -> DecodedRows:
        if get_worker_info() is None:
            return self.values.read(part)
        shape = (len(part), *self.values.shape[1:])
        size = math.prod(shape)
        if not self._memory or len(self._memory[0]) < size:
            self._memory = [
                torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
                for _ in range(self.turns)
            ]
        self._turn = (self._turn + 1) % self.turns
        return self.values.read(part, self._memory[self._turn][:size].view(shape))


def _as_is(batch: Any) -> Any:
    """Stand in for collation: the batch is whole."""
    return batch


def _begin(worker: int) -> None:
    """Prepare a worker. Ctrl-C is for the process that started it; that process ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    warnings.filterwarnings("ignore", module="PIL")  # about metadata; nobody would see which file
