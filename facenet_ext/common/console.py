"""The consoles that commands print to; they print names and paths unchanged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 10_000
"""Columns of a file or a pipe, where a wrapped line is hard to search."""


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that prints text as it is.

    Rich reads "[old]" in a text as markup, ":x:" as an emoji, and colours what looks like a number.
    Names and paths may hold any of these. Colours are given by ``style=`` or a ``rich.text.Text``.

    Args:
        stderr: print to standard error in place of standard output.
        width: columns; by default those of the terminal, and elsewhere enough for any line.

    Example:
        >>> make_console().print("runs/faces[old]")
        runs/faces[old]
    """
    from rich.console import Console

    console = Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def cut(name: str, length: int) -> str:
    """Shorten a long name in its middle, as both ends tell it from others.

    Example:
        >>> cut("Person_with_a_long_name/0001.png", 15)
        'Person_…001.png'
    """
    if len(name) <= length:
        return name
    return f"{name[: length // 2]}…{name[len(name) - (length - 1) // 2 :]}"
