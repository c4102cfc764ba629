"""What ends a run early: each is told to the user in one line, without a traceback."""

from __future__ import annotations

from pathlib import Path

__all__ = ["InputError", "InterruptedRunError"]


class InputError(ValueError):
    """The input cannot be used; the message says which, why, and what to do about it."""


class InterruptedRunError(Exception):
    """The user stopped the run; ``checkpoint`` is where it continues, if it got that far."""

    def __init__(self, checkpoint: Path | None) -> None:
        super().__init__(checkpoint)
        self.checkpoint = checkpoint
