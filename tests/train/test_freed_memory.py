"""Claims about the memory that a training gives back."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from facenet_ext.train import freed_memory
from facenet_ext.train.freed_memory import ReturnFreedMemory

_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def _resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not _GLIBC, reason="the C library is not glibc")
def test_freed_pieces_between_others_go_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    clock = [0.0]
    monkeypatch.setattr(freed_memory.time, "monotonic", lambda: clock[0])
    callback = ReturnFreedMemory()
    pieces = [libc.malloc(100_000) for _ in range(2000)]  # below what glibc maps by itself
    for piece in pieces:
        ctypes.memset(piece, 1, 100_000)
    for piece in pieces[::2]:
        libc.free(piece)
    full = _resident()
    callback.on_train_batch_end()
    assert _resident() > full - 20_000_000, "it is not time yet"
    clock[0] = 21.0
    callback.on_train_batch_end()
    assert _resident() < full - 80_000_000
    for piece in pieces[1::2]:
        libc.free(piece)


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: object())
    callback = ReturnFreedMemory()
    callback._next = 0.0
    callback.on_train_batch_end()
