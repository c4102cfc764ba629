"""Declares the options of a command: a dataclass, and for each option a field with its help."""

from __future__ import annotations

import dataclasses
from typing import Any


def option(default: Any, help: str, of: Any = None) -> Any:
    """Declare an option as a field of a dataclass.

    Args:
        default: its value where it is not given.
        help: what it does.
        of: narrows the field's type to the values allowed.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class ShowOptions:
        ...     width: int = option(80, "columns")
        >>> ShowOptions(width=100)
        ShowOptions(width=100)
    """
    return dataclasses.field(default=default, metadata={"help": help, "type": of})


def rare(default: Any, help: str, of: Any = None) -> Any:
    """Declare an :func:`option` that ``--help-all`` lists, and ``--help`` does not."""
    return dataclasses.field(default=default, metadata={"help": help, "type": of, "rare": True})


def argument(help: str) -> Any:
    """Declare an argument that stands on the command line without the field's name."""
    return dataclasses.field(metadata={"help": help, "type": None})
