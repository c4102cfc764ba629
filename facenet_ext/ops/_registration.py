"""What the operators' registrations share."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_F = TypeVar("_F", bound=Callable[..., Any])


def register_fake(name: str) -> Callable[[_F], _F]:
    """``torch.library.register_fake`` with its type."""
    return cast(Callable[[_F], _F], torch.library.register_fake(name))


def differentiable_once(backward: _F) -> _F:
    """A backward whose results refuse to be differentiated.

    ``torch.autograd.function.once_differentiable`` does that only where the incoming gradient is
    itself being differentiated. These operators' gradients depend on the embeddings too, so a
    second derivative would otherwise be dropped in silence.
    """

    def once(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            outputs: tuple[Any, ...] = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return outputs
        refuse = torch._C._functions.DelayedError(
            b"facenet_ext's triplet losses have no second derivative: "
            b"keep them out of what is differentiated twice",
            len(outputs),
        )
        results: tuple[Any, ...] = refuse(
            *(None if o is None else o.detach().requires_grad_() for o in outputs)  # type: ignore[arg-type]
        )
        return results

    return cast(_F, once)


def value_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and distances of embeddings of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
