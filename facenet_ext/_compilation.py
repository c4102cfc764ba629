"""Keeps functions out of ``torch.compile``."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

__all__ = ["outside_graphs"]

_F = TypeVar("_F", bound=Callable[..., Any])


def outside_graphs(function: _F) -> _F:
    """Decorates a function so that ``torch.compile`` runs it uncompiled, between two graphs.

    ``torch.compiler.disable`` does the same, but imports the compiler at once, which takes longer
    than to import torch. Here it is imported only in a compilation.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            disabled: Any = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return disabled(*arguments, **named)
        return function(*arguments, **named)

    return cast(_F, call)
