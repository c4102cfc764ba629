"""Errors that end a run early. Commands print each in one line, without a traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """A file, a folder or an option cannot be used.

    The message says which one, why, and what to do about it. It has the names of arguments in
    backticks, as `held_out`. A command ends with the message in one line and with status 2. It
    shows each argument as on its command line, as ``--held-out``.

    Example:
        >>> from facenet_ext.recognition import read_embeddings
        >>> try:
        ...     read_embeddings(Path("nowhere"))
        ... except InputError as error:
        ...     print(error)
        nowhere: holds no embeddings (store.json is missing); make some with 'facenet embed'
    """


def in_flags(message: str) -> str:
    """Return a message with its arguments named as on a command line.

    Example:
        >>> in_flags("too few people are left; give a smaller `held_out`")
        'too few people are left; give a smaller --held-out'
    """
    return re.sub("`([a-z_]+)`", lambda name: "--" + name[1].replace("_", "-"), message)


def one_line(error: Exception) -> str:
    r"""Return the message of a library's error in one line that is not too long, or its kind.

    Example:
        >>> one_line(ValueError("line 1:\n  bad")), one_line(EOFError())
        ('line 1: bad', 'EOFError')
    """
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def refusing(
    called: str = "", kinds: type[Exception] | tuple[type[Exception], ...] = ValueError
) -> Iterator[None]:
    """Report what the library refuses inside, such as a user's arrays, as wrong input.

    Args:
        called: what is refused, a colon and a space; or nothing where the message says it.
        kinds: the errors by which it is refused.

    Raises:
        InputError: in their place.
    """
    try:
        yield
    except kinds as error:
        raise InputError(f"{called}{error}") from error


class InterruptedRunError(Exception):
    """The user stopped the run; it can continue from ``checkpoint``, unless that is None."""

    def __init__(self, checkpoint: Path | None) -> None:
        super().__init__(checkpoint)
        self.checkpoint = checkpoint
