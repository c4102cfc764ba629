"""Ctrl-C while libraries load, which takes seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def loading(prog: str) -> Iterator[None]:
    """Let Ctrl-C end the process with one line and status 130 while the block runs.

    An interrupted import may raise anything, NumPy's an AttributeError, and leaves broken modules
    behind. There is nothing to clean up yet, so the process ends at once.

    Args:
        prog: the command's name.

    Example:
        >>> with loading("facenet train"):
        ...     import torch
    """
    if threading.current_thread() is not threading.main_thread():  # only it can handle signals
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{prog}: stopped\n".encode())
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # a command in the background ignores Ctrl-C
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
