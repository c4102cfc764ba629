"""Long work in blocks of items. A finished block is on disk, so that a killed call can go on.

The blocks lie in a hidden folder inside that of the result until all are done. Several processes
may divide them: see ``facenet_ext._claims``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facenet_ext._files import lock
from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import read_json, write_json, writing
from facenet_ext.common.text import read_text

UNFINISHED = ".unfinished"
_MOST_BLOCKS = 4096
"""A block is a batch, or as many as keep the folder of blocks from having more files than that."""


class Blocks:
    """The finished blocks of unfinished work.

    Args:
        folder: the folder of the unfinished files.
        items: the number of items.
        size: how many items a block has.

    Attributes:
        ranges: the positions of the items of each block.
    """

    def __init__(self, folder: Path, items: int, size: int) -> None:
        self.folder = folder
        self.ranges = [range(i, min(i + size, items)) for i in range(0, items, size)]

    def _facts(self, number: int) -> Path:
        return self.folder / f"{number:07d}.json"

    def is_done(self, number: int) -> bool:
        """Whether a block is finished."""
        return self._facts(number).is_file()

    @property
    def done(self) -> int:
        """How many items the finished blocks cover."""
        names = set(os.listdir(self.folder))
        return sum(
            len(block)
            for number, block in enumerate(self.ranges)
            if self._facts(number).name in names
        )

    def finish(self, number: int, facts: dict[str, Any]) -> None:
        """Write what is known of a block. Its file also says that the block is finished."""
        write_json(self._facts(number), facts)

    def facts(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of each block, in order, when all are finished."""
        for number in range(len(self.ranges)):
            yield json.loads(read_text(self._facts(number)))

    def remove(self) -> None:
        """Remove the folder, when its content is in the result."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def working_in_blocks(
    output: Path,
    items: int,
    batch: int,
    described: dict[str, Any],
    *,
    ranks: Ranks,
    is_finished: Callable[[], bool],
    doing: str,
    others: str,
) -> Iterator[Blocks | None]:
    """Begin work, or go on with it, and keep other commands out of its folder.

    Args:
        output: the folder of the result.
        items: the number of items.
        batch: the number of items that are worked on at once: a block has a multiple of it.
        described: what the work depends on; a call that goes on must have the same.
        ranks: the processes that divide the work.
        is_finished: returns whether an earlier call has finished the work. It raises an InputError
            if the folder has the result of other work.
        doing: the work, as in "another command is embedding into it".
        others: what to name where ``described`` differs, as "other images or another model".

    Yields:
        The blocks, as they were begun; None where all is done.

    Raises:
        InputError: the folder is in use, cannot be written to, or was begun with something else.
    """
    folder = output / UNFINISHED
    with contextlib.ExitStack() as stack:

        def begin() -> int:
            """Lock the folder, and return how many items a block has; 0 where all is done."""
            if is_finished():
                return 0
            stack.enter_context(_alone(folder, doing))
            if is_finished():  # another command has just finished it
                return 0
            return _begin(folder, described, items, batch, others)

        size = ranks.number(ranks.first(begin))
        yield Blocks(folder, items, size) if size else None


@contextlib.contextmanager
def _alone(folder: Path, doing: str) -> Iterator[None]:
    """Lock an unfinished folder against other processes; the lock ends with this process."""
    with contextlib.ExitStack() as stack:
        with writing(folder.parent, ""):
            folder.mkdir(parents=True, exist_ok=True)
            locked = stack.enter_context(lock(folder / "lock"))
        if not locked:
            raise InputError(
                f"{folder.parent}: another command is {doing} into it; wait for its end"
            )
        yield


def _begin(folder: Path, described: dict[str, Any], items: int, batch: int, others: str) -> int:
    """Describe the work in its unfinished folder; return how many items a block has.

    A call that continues has the blocks that were begun with.
    """
    file = folder / "progress.json"
    begun = read_json(file)
    size = begun.get("block") if isinstance(begun, dict) else None
    if not isinstance(size, int) or size < 1:  # it is new, or damaged: begin anew
        for finished in folder.glob("[0-9]*"):
            finished.unlink()
        size = batch * max(1, math.ceil(items / (batch * _MOST_BLOCKS)))
        with writing(folder.parent, ""):
            write_json(file, described | {"block": size})
    elif any(begun.get(name) != value for name, value in described.items()):
        raise InputError(
            f"{folder.parent}: was begun with {others}; give the same to go on, or choose another "
            "folder"
        )
    return size
