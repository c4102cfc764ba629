"""Imports what a user names on the command line, as ``module:function``, and nothing else."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from facenet_ext.common.errors import InputError

__all__ = ["import_named"]


def import_named(called: str, name: str) -> Any:
    """Import a function or class by its name.

    Args:
        called: the argument that named it, in backticks.
        name: "module:function", or "package.module:Class". The current folder is searched too.

    Raises:
        InputError: there is no such module, or it has no such name, or importing it fails.

    Example:
        >>> import_named("`detector`", "math:hypot")(3, 4)
        5.0
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"{called} {name}: expected module:function")
    if os.getcwd() not in sys.path:  # last: no file in it takes the place of an installed module
        sys.path.append(os.getcwd())
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{called} {name}: cannot be imported ({type(error).__name__}: {error})"
        ) from error
    return value
