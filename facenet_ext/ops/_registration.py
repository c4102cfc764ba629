"""What the operators' registrations share."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_F = TypeVar("_F", bound=Callable[..., Any])


def register_fake(name: str) -> Callable[[_F], _F]:
    """``torch.library.register_fake`` with its type."""
    return cast(Callable[[_F], _F], torch.library.register_fake(name))


def value_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and distances of embeddings of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
