"""Packages whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from facenet_ext._extras import how_to_install

__all__ = ["lazily"]


def lazily(
    package: str, homes: Mapping[str, Sequence[str]], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``.

    Args:
        package: its name.
        homes: its names, by the module that has them; that by its name inside the package, or by
            its full name, which begins with ``facenet_ext.``.
        modules: those of its modules that are attributes too.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        try:
            if name in home_of:
                home = home_of[name]
                home = home if home.startswith("facenet_ext.") else f"{package}.{home}"
                value = getattr(import_module(home), name)
            elif name in modules:
                value = import_module(f"{package}.{name}")
            else:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
        except ModuleNotFoundError as missing:
            what = how_to_install(missing.name or "a package", "train")
            raise ModuleNotFoundError(f"{package}.{name} {what}", name=missing.name) from missing
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        own = {*vars(sys.modules[package]), *home_of, *modules}
        return sorted(own - {"TYPE_CHECKING", "lazily"})

    return get, names
