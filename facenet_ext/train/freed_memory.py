"""Returns to the system what a training has freed."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from lightning.pytorch import Callback

_SECONDS = 20.0


class ReturnFreedMemory(Callback):
    """Let the C library give back freed memory, every 20 seconds.

    The tensors of a step are freed in pieces, between others that stay. glibc keeps such pieces,
    and the next step's tensors do not all fit into them, so a process grows though its tensors do
    not: a committee of eight grew from 3 GB to 14 in 500 steps. Other C libraries have no
    ``malloc_trim``; there this does nothing.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
        self._next = time.monotonic() + _SECONDS

    def on_train_batch_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Give back what is free, if it is time."""
        if self._trim is not None and time.monotonic() >= self._next:
            self._trim(0)
            self._next = time.monotonic() + _SECONDS
