"""Ctrl-C while libraries load, which takes seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["loading"]


@contextmanager
def loading(prog: str) -> Iterator[None]:
    """End the process in one line, with status 130, if Ctrl-C is pressed meanwhile.

    An import that is cut short raises anything, of NumPy an AttributeError, and what it leaves
    behind does not work: there is nothing to clean up, nor to go on with.

    Args:
        prog: the command's name.

    Example:
        >>> with loading("facenet train"):
        ...     import torch
    """
    if threading.current_thread() is not threading.main_thread():  # which has no say in signals
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{prog}: stopped\n".encode())
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as of a command that runs in the background
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
