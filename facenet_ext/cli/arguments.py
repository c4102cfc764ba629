"""Turns dataclasses of options into arguments of a parser, and what is parsed back into them."""

from __future__ import annotations

import dataclasses
from argparse import Action
from collections.abc import Iterable
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jsonargparse import Namespace

    T = TypeVar("T", bound=DataclassInstance)


class _Section(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Action: ...


def add_arguments(
    section: _Section, cls: type[DataclassInstance], names: Iterable[str], *, flags: bool
) -> list[Action]:
    """Add arguments for fields of a dataclass: see :mod:`facenet_ext.common.options`.

    Args:
        section: a parser, or a group of its arguments.
        cls: the dataclass.
        names: of the fields.
        flags: a bool is a flag, as ``--json``; else it takes a value, as ``--flip true``.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    types = get_type_hints(cls)
    return [_add(section, fields[name], types[name], flags) for name in names]


def _add(section: _Section, field: dataclasses.Field[Any], kind: Any, flags: bool) -> Action:
    text = field.metadata["help"]
    if field.default is dataclasses.MISSING:
        return section.add_argument(field.name, type=kind, help=text)
    name = "--" + field.name.replace("_", "-")
    if flags and kind is bool:
        return section.add_argument(name, action="store_true", help=text)
    narrowed = field.metadata["type"]
    if narrowed:
        kind = narrowed | None if NoneType in get_args(kind) else narrowed
    action = section.add_argument(name, type=kind, default=field.default, help=text)
    action.rare = "rare" in field.metadata  # type: ignore[attr-defined]
    return action


def read_arguments(cls: type[T], parsed: Namespace) -> T:
    """Return the options of a dataclass from what was parsed."""
    return cls(**{field.name: _plain(parsed[field.name]) for field in dataclasses.fields(cls)})


def _plain(value: Any) -> Any:
    """Undo jsonargparse's own types, which neither YAML nor checkpoints know."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(entry) for entry in value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    return value
