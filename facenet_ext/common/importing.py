"""Imports what a user names, as ``module:function``, and nothing else."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from facenet_ext.common.errors import InputError, one_line

__all__ = ["import_module", "import_named"]


def import_named(name: str, argument: str) -> Any:
    """Import a function or class by its name.

    Args:
        name: "module:function", or "package.module:Class".
        argument: what named it, in backticks.

    Raises:
        InputError: there is no such module, or it has no such function, or importing it fails.

    Example:
        >>> import_named("math:hypot", "`detector`")(3, 4)
        5.0
    """
    asked = f"{argument} {name}"
    module, _, path = name.partition(":")
    if not module or not path:
        raise InputError(f"{asked}: expected module:function")
    value: Any = import_module(module, asked)
    for part in path.split("."):
        if not hasattr(value, part):
            raise InputError(f"{asked}: {module} has no {path}")
        value = getattr(value, part)
    if not callable(value):
        raise InputError(f"{asked}: expected a function or a class, it is {value!r:.80}")
    return value


def import_module(name: str, asked: str) -> ModuleType:
    """Import a module, also from the current folder, which a command has not on its path.

    The folder comes last, so that no file in it takes the place of an installed module.
    """
    try:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name != name.partition(".")[0] or os.getcwd() in sys.path:
                raise
            sys.path.append(os.getcwd())
            importlib.invalidate_caches()
            return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and f"{name}.".startswith(f"{missing.name}."):
            raise InputError(
                f"{asked}: there is no module {missing.name}, neither among the installed ones nor "
                "in the current folder"
            ) from None
        raise InputError(f"{asked}: {name} cannot be imported ({missing})") from missing
    except Exception as error:  # any: the code is not ours
        raise InputError(
            f"{asked}: {name} cannot be imported ({type(error).__name__}: {one_line(error)})"
        ) from error
