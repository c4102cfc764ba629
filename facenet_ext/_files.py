"""Files that several processes share: locks, and replacing a file whole.

Imports no torch, so that sets of images can be opened before torch is loaded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock", "replacing"]


@contextlib.contextmanager
def lock(file: Path, wait: bool = False) -> Iterator[bool]:
    """Lock a file against other processes; yield whether that succeeded.

    The lock ends with this process, however that ends. On a file system without locks nothing is
    locked.

    Args:
        file: made where it is missing.
        wait: wait until no other process has the lock.
    """
    with file.open("w") as opened:
        if fcntl is not None:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            except OSError:  # without locks
                pass
        yield True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; after the block, rename what was written under it.

    So the file is never half written. If the block fails, the temporary file is removed, and a
    file that was there before stays.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
