"""What ``torch.compile`` leaves alone."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

__all__ = ["outside_graphs"]

_F = TypeVar("_F", bound=Callable[..., Any])


def outside_graphs(function: _F) -> _F:
    """A function that ``torch.compile`` runs as it is, between the graphs of what is around.

    ``torch.compiler.disable`` does the same and imports the compiler at once, which takes longer
    than torch itself. Here it is imported by whoever compiles.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            disabled: Any = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return disabled(*arguments, **named)
        return function(*arguments, **named)

    return cast(_F, call)
