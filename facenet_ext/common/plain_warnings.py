"""Prints libraries' warnings as plain lines, and with them the file that they are about."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from facenet_ext.common.text import counted, printable

_NAMED = 5
"""How many files are named one by one."""

_thread = threading.local()


class reading:  # noqa: N801 - a class takes a third of a generator's time, for each image
    """Attribute this thread's warnings to a file while the block runs.

    Args:
        path: as text, what to call it.
    """

    __slots__ = ("_path",)

    def __init__(self, path: object) -> None:
        self._path = path

    def __enter__(self) -> None:
        _thread.path = self._path

    def __exit__(self, *_: object) -> None:
        _thread.path = None


@contextlib.contextmanager
def tell_warnings(tell: Callable[[str], Any]) -> Iterator[None]:
    """Report the warnings of all threads as plain lines while the block runs.

    Warnings about files come at its end: each file once, with its first warning; from the sixth
    file on they are only counted. Other warnings come at once, each once. Warnings for developers
    (neither UserWarning nor RuntimeWarning) are left to Python.

    Args:
        tell: called with each line.

    Example:
        >>> with tell_warnings(print), reading("a.jpg"):
        ...     warnings.warn("Corrupt EXIF data")
        warning: a.jpg: Corrupt EXIF data
    """
    heard: dict[str, str] = {}
    others: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module="PIL")  # by default, only for the first file
        show = warnings.showwarning

        def hear(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            path = getattr(_thread, "path", None)
            line = " ".join(str(message).split())
            if path is not None:
                heard.setdefault(str(path), line)
            elif not issubclass(category, UserWarning | RuntimeWarning):
                show(message, category, *where, **more)
            elif line not in others:
                others.add(line)
                tell(f"warning: {line}")

        warnings.showwarning = hear
        try:
            yield
        finally:
            for path, message in list(heard.items())[:_NAMED]:
                tell(f"warning: {printable(path)}: {message}")
            if len(heard) > _NAMED:
                more = counted(len(heard) - _NAMED, "more file")
                tell(f"warning: and {more}, with such messages")
