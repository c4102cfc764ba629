"""Networks of one's own: how they are named, found and built.

Only what somebody named is imported. A name is known because a program registered it, because a
person gave ``package.module:function``, or because ``FACENET_MODELS`` lists its module. The name
that a checkpoint holds does not suffice: to import it would run code that a file chose.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from facenet_ext._network_names import BUILT_IN, OWN
from facenet_ext.common.errors import InputError
from facenet_ext.common.importing import import_module, import_named
from facenet_ext.models.wrapped import WrappedNetwork

ENVIRONMENT = "FACENET_MODELS"
"""The variable of the environment that lists what to import, divided by commas: modules, whose
networks are then known by the names that they register, or ``package.module:function``."""

_T = TypeVar("_T", bound=Callable[..., nn.Module])
_REGISTERED: dict[str, Callable[..., nn.Module]] = {}


def register(name: str) -> Callable[[_T], _T]:
    """Give a function that makes a network a name, for ``--model`` and ``facenet models``.

    The function, or class, is called with those options of a training run that it has arguments of
    the same name for: ``embedding_dim``, ``channels``, ``input_size``, ``input_shape``, ``width``,
    ``stages``, ``dropout``, ``batch_norm``. What it returns maps [N, channels, input_size,
    input_size] to [N, D]; the embeddings are then brought to length 1.

    Args:
        name: letters, digits, ``_``, ``-`` and ``.``, the first a letter or ``_``.

    Returns:
        A decorator that returns the function as it is.

    Raises:
        ValueError: the name is taken, or has other characters.

    Example:
        >>> @register("two-layers")
        ... def two_layers(channels, input_size, embedding_dim):
        ...     return nn.Sequential(
        ...         nn.Conv2d(channels, 8, 3, stride=2),
        ...         nn.Flatten(),
        ...         nn.LazyLinear(embedding_dim),
        ...     )
        >>> "two-layers" in registered()
        True

    Source: this project.
    """
    if re.match(OWN, name) is None or ":" in name:
        raise ValueError(f"name: expected letters, digits, '_', '-' and '.', got {name!r}")
    if name in BUILT_IN:
        raise ValueError(f"name: {name!r} is one of this package's networks; choose another")

    def keep(function: _T) -> _T:
        before = _REGISTERED.get(name)
        if before is not None and source_of(before) != source_of(function):
            raise ValueError(f"name: {name!r} is {source_of(before)} already; choose another")
        _REGISTERED[name] = function
        return function

    return keep


def registered() -> dict[str, Callable[..., nn.Module]]:
    """Return what is registered, by name, also by the modules that ``FACENET_MODELS`` lists.

    Raises:
        InputError: one of these cannot be imported.
    """
    for entry in _listed():
        import_module(entry.partition(":")[0], f"{ENVIRONMENT} {entry}")
    return dict(_REGISTERED)


def is_named(name: str) -> bool:
    """Whether a program or the environment names a network, as a checkpoint alone may not.

    Args:
        name: a registered name, or the function that was registered or that ``FACENET_MODELS``
            lists, as ``package.module:function``.

    Raises:
        InputError: a module that ``FACENET_MODELS`` lists cannot be imported.
    """
    known = registered()
    return name in known or name in {*_listed(), *map(source_of, known.values())}


def network_source(name: str) -> str | None:
    """Return where a network of one's own is from; None of this package's networks."""
    if name in BUILT_IN:
        return None
    return source_of(_REGISTERED[name]) if name in _REGISTERED else name


def source_of(function: Callable[..., Any]) -> str:
    """Return where a function is from, as ``package.module:function``."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}:{kind.__qualname__}"


def find_network(name: str) -> Callable[..., nn.Module]:
    """Return the function that makes a network of one's own; its module is imported.

    Modules are looked for as Python does, and then in the current folder.

    Args:
        name: ``package.module:function``, or a registered name.

    Raises:
        InputError: there is no such module or function, or its import fails.
    """
    known = registered()
    if name in known:
        return known[name]
    if ":" not in name:
        also = f" and {', '.join(known)}" if known else ""
        raise InputError(
            f"`model` {name}: no such network; there are {', '.join(BUILT_IN)}{also}. For one of "
            f"your own give package.module:function, or list in {ENVIRONMENT} the module that "
            "registers it"
        )
    return import_named(name, "`model`")  # type: ignore[no-any-return]


def build_own(
    name: str,
    input_shape: tuple[int, ...],
    *,
    embedding_dim: int = 128,
    width: int = 32,
    stages: Sequence[int] = (1, 1, 1, 1),
    dropout: float = 0.0,
    batch_norm: bool = False,
    standardize: bool = True,
    channels_last: bool = True,
) -> WrappedNetwork:
    """Make a network of one's own.

    Args:
        name: ``package.module:function``, or a registered name.
        input_shape: shape of one input; this and the next five are what the function may take.
        embedding_dim: D, the length of an embedding, if the function takes it.
        width: as the run has it.
        stages: as the run has them.
        dropout: as the run has it.
        batch_norm: as the run has it.
        standardize: see :class:`.WrappedNetwork`.
        channels_last: see there.

    Raises:
        InputError: there is no such function, it needs other arguments, it fails, or what it
            returns does not embed such inputs.
    """
    function = find_network(name)
    options = {
        "embedding_dim": embedding_dim,
        "channels": input_shape[0],
        "input_size": input_shape[-1],
        "input_shape": input_shape,
        "width": width,
        "stages": stages,
        "dropout": dropout,
        "batch_norm": batch_norm,
    }
    taken = _taken(function, options, name)
    try:
        network = function(**taken)
    except Exception as error:  # any: the code is not ours
        given = ", ".join(f"{option}={value!r}" for option, value in taken.items())
        reason = " ".join(str(error).split())
        raise InputError(
            f"`model` {name}: called with {given or 'no arguments'} it failed "
            f"({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"`model` {name}: must return a torch.nn.Module, it returned {type(network).__name__}"
        )
    try:
        wrapped = WrappedNetwork(
            network, input_shape, standardize=standardize, channels_last=channels_last
        )
    except ValueError as error:
        raise InputError(f"`model` {name}: {error}") from error
    wanted = taken.get("embedding_dim", wrapped.embedding_dim)
    if wrapped.embedding_dim != wanted:
        raise InputError(
            f"`model` {name}: called with embedding_dim={wanted} it returns "
            f"{wrapped.embedding_dim} numbers for each input"
        )
    return wrapped


def _taken(function: Callable[..., Any], options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the options that a function has arguments for."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function in C need not tell its parameters
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (parameter.kind not in by_name or parameter.name not in options)
    ]
    if missing:
        raise InputError(
            f"`model` {name}: its arguments {', '.join(missing)} are no options of a run; give "
            f"them defaults, or name them one of {', '.join(options)}"
        )
    return {p.name: options[p.name] for p in parameters if p.kind in by_name and p.name in options}


def _listed() -> list[str]:
    return [name for entry in os.environ.get(ENVIRONMENT, "").split(",") if (name := entry.strip())]
