"""Tells what libraries warn of in plain lines, and of an image with the name of its file."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facenet_ext.common.text import counted, printable

__all__ = ["reading", "tell_warnings"]

_NAMED = 5
"""How many files are named one by one."""

_thread = threading.local()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say that this thread reads a file meanwhile: what is warned of is about it."""
    _thread.path = path
    try:
        yield
    finally:
        _thread.path = None


@contextlib.contextmanager
def tell_warnings(tell: Callable[[str], Any]) -> Iterator[None]:
    """Tell what is warned of meanwhile, in any thread.

    What is about a file is told at the end: each file is named once, with the first warning about
    it, and from the sixth on they are counted. Other warnings are told at once, each once; those
    for developers are left as they are.

    Args:
        tell: called with each line.

    Example:
        >>> with tell_warnings(print), reading(Path("a.jpg")):
        ...     warnings.warn("Corrupt EXIF data")
        warning: a.jpg: Corrupt EXIF data
    """
    heard: dict[Path, str] = {}
    others: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module="PIL")  # else only the first file's is heard
        show = warnings.showwarning

        def hear(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            path = getattr(_thread, "path", None)
            line = " ".join(str(message).split())
            if path is not None:
                heard.setdefault(path, line)
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
