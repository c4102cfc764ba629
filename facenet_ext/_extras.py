"""Says what to install where an optional package is missing."""

from __future__ import annotations

import re
import shlex

__all__ = ["how_to_install"]


def how_to_install(missing: str, extra: str) -> str:
    """Return how to install a missing package of an extra.

    The command names packages. To name the extra, ``facenet-ext[train]``, would fail where
    facenet-ext was installed from its source folder and no index has it.

    Args:
        missing: the module that could not be imported.
        extra: a name under ``[project.optional-dependencies]`` in pyproject.toml.

    Returns:
        The end of a sentence, with the command.

    Example:
        >>> how_to_install("onnx", "onnx").partition(" is ")[0]
        'needs onnx, which'
    """
    from importlib import metadata  # here, as --help would take twice as long with it

    missing = missing.partition(".")[0]
    needs = f"needs {missing}, which is not installed"
    try:
        listed = metadata.requires("facenet-ext") or []
    except metadata.PackageNotFoundError:  # run in its source folder
        return f"{needs}; in facenet_ext's source folder: pip install '.[{extra}]'"
    wanted = [
        requirement.strip()
        for requirement, _, condition in (line.partition(";") for line in listed)
        if re.search(rf"""extra *== *["']{extra}["']""", condition)
    ]
    absent = [requirement for requirement in wanted if not _is_installed(requirement)]
    return f"{needs}: pip install {shlex.join(absent or [missing])}"


def _is_installed(requirement: str) -> bool:
    from importlib import metadata

    name = re.match(r"[\w.-]+", requirement)
    try:
        return name is not None and bool(metadata.version(name[0]))
    except metadata.PackageNotFoundError:
        return False
