"""The files that a pattern stands for: a glob, or braces as shells expand them."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from facenet_ext.common.errors import InputError

__all__ = ["braces", "matching"]

_MOST = 1_000_000
_BRACES = re.compile(r"\{([^{}]*,[^{}]*|-?\d+\.\.-?\d+)\}")


def braces(pattern: str) -> Iterator[str]:
    """Yield what a pattern with braces stands for.

    Example:
        >>> list(braces("{a,b}-{08..10}.tar"))
        ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, after = pattern[: match.start()], pattern[match.end() :]
    for middle in _alternatives(match[1]):
        for rest in braces(after):
            yield f"{before}{middle}{rest}"


def _alternatives(inside: str) -> Iterator[str]:
    if "," in inside:
        yield from inside.split(",")
        return
    first, last = inside.split("..")
    digits = (
        max(map(len, (first, last)))
        if any(len(n) > 1 and n[0] == "0" for n in (first, last))
        else 0
    )
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield str(number).zfill(digits)


def matching(data: str) -> list[Path]:
    """Return the files and folders that some data means, in order.

    A path that exists is itself, whatever its characters.

    Raises:
        InputError: there are none, or one of those in braces is missing.
    """
    path = Path(data).expanduser()
    try:
        if path.exists():
            return [path]
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise InputError(f"`data` {data}: no name of a file ({error})") from None
    paths: list[Path] = []
    names = list(itertools.islice(braces(str(path)), _MOST + 1))
    if len(names) > _MOST:
        raise InputError(f"`data` {data}: stands for more than {_MOST:,} files")
    for name in names:
        files = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else [name]
        paths += [Path(file) for file in files]
    missing = [file for file in paths if not file.exists()]
    if missing and len(names) > 1:
        raise InputError(
            f"`data` {data}: {missing[0]} is missing, and {len(missing) - 1:,} others of "
            f"{len(paths):,}"
        )
    return [] if missing else paths
