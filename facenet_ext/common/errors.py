"""Errors that end a run early. Commands print each in one line, without a traceback."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["InputError", "InterruptedRunError", "in_flags"]


class InputError(ValueError):
    """The input cannot be used; the message says which, why, and what to do about it.

    Arguments stand in backticks, as `held_out`. Commands show them as :func:`in_flags` does.
    """


def in_flags(message: str) -> str:
    """Return a message with its arguments named as on a command line.

    Example:
        >>> in_flags("too few people are left; give a smaller `held_out`")
        'too few people are left; give a smaller --held-out'
    """
    return re.sub("`([a-z_]+)`", lambda name: "--" + name[1].replace("_", "-"), message)


class InterruptedRunError(Exception):
    """The user stopped the run; it can continue from ``checkpoint``, unless that is None."""

    def __init__(self, checkpoint: Path | None) -> None:
        super().__init__(checkpoint)
        self.checkpoint = checkpoint
