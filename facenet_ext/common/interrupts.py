"""Ctrl-C, and SIGTERM as one, also while libraries load, which takes seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from facenet_ext.common.launch import is_first


@contextmanager
def loading(prog: str) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the process with one line and status 130 while the block runs.

    An interrupted import may raise anything, NumPy's an AttributeError, and leaves broken modules
    behind. There is nothing to clean up yet, so the process ends at once.

    Args:
        prog: the command's name.

    Example:
        >>> with loading("facenet train"):
        ...     import torch
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if is_first():
            os.write(2, f"{prog}: stopped\n".encode())
        os._exit(130)

    with _handling((signal.SIGINT, signal.SIGTERM), stop):
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt while the block runs, as Ctrl-C does."""
    with _handling((signal.SIGTERM,), signal.default_int_handler):
        yield


@contextmanager
def _handling(signals: tuple[int, ...], handler: Callable[..., Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only it can handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    for number, other in before.items():
        if other is not signal.SIG_IGN:  # a command in the background ignores Ctrl-C
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, other in before.items():
            signal.signal(number, other)
