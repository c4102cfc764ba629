"""A bar for work that says how far it is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Counting"]


class Counting:
    """A bar for work that says how far it is, with the time it will take.

    Where the output is no terminal nothing is shown.

    Args:
        what: is done.
        console: where to print.

    Example:
        >>> with Counting("counting", Console(quiet=True)) as progress:
        ...     progress(3, 10)
    """

    def __init__(self, what: str, console: Console) -> None:
        self._bar = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Counting:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total)
