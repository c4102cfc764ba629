"""A progress bar for work that reports how far it is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


class Counting(Progress):
    """A progress bar for work that reports how far it is, with the time that is left.

    It shows nothing where the output is not a terminal.

    Attributes:
        begun: how much was done already when the work began; None before it begins.

    Args:
        what: what is being done.
        console: where to print.

    Example:
        >>> with Counting("counting", Console(quiet=True)) as progress:
        ...     progress(3, 10)
    """

    def __init__(self, what: str, console: Console) -> None:
        super().__init__(console=console, disable=not console.is_terminal, transient=True)
        self._task = self.add_task(what, total=None)
        self.begun: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        if self.begun is None:
            self.begun = done
        self.update(self._task, completed=done, total=total)
