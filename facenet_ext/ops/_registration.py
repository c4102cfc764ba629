"""What the operators' registrations share."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from facenet_ext import _internals

_F = TypeVar("_F", bound=Callable[..., Any])

_NO_SECOND = (
    "facenet_ext's triplet losses have no second derivative: "
    "keep them out of what is differentiated twice"
)
_NO_FORWARD = (
    "facenet_ext has no forward-mode derivative, which jvp, jacfwd and hessian ask for: "
    "use reverse mode, such as torch.func.grad, vjp or jacrev"
)


def register_fake(name: str) -> Callable[[_F], _F]:
    """``torch.library.register_fake``, typed, for an operator that refuses ``vmap``."""
    torch.library.register_vmap(name, functools.partial(_refuse_vmap, name))
    return cast(Callable[[_F], _F], torch.library.register_fake(name))


def _refuse_vmap(name: str, *_: Any) -> Any:
    raise RuntimeError(f"{name}: torch.func.vmap is not supported: call it for each entry instead")


def register_gradient(
    operator: Any, backward: Callable[..., Any], setup_context: Callable[..., None]
) -> type[torch.autograd.Function]:
    """Register an operator's gradient.

    Args:
        operator: an overload.
        backward: see ``torch.library.register_autograd``.
        setup_context: see there.

    Returns:
        A function of autograd that calls the operator, for where :func:`needs_function` is true. It
        has the operator's arguments and gradient. ``vmap`` and forward mode raise an error.
    """
    name = operator.name()
    torch.library.register_autograd(name, backward, setup_context=setup_context)

    class Transformable(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator(*arguments)

        @staticmethod
        def vmap(*_: Any) -> Any:
            _refuse_vmap(name)

        @staticmethod
        def jvp(*_: Any) -> Any:
            raise RuntimeError(_NO_FORWARD)

    Transformable.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
    # Else torch.compile would trace it inside a transform that it does not compile.
    eager = _internals.never_compiled(backward)
    Transformable.backward = staticmethod(eager)  # type: ignore[method-assign]
    return Transformable


def differentiable_once(backward: _F) -> _F:
    """A backward whose results refuse to be differentiated.

    The gradients of these operators depend on the embeddings too, so a second derivative would
    otherwise be dropped in silence. ``torch.autograd.function.once_differentiable`` does not help.
    The node that it adds to the graph, which refuses, is connected to no tensor.
    ``torch.autograd.grad`` follows only paths to its inputs, and never reaches the node. Here the
    node is connected to every saved tensor that needs a gradient. So ``setup_context`` must save
    the embeddings.
    """

    def once(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        outputs: tuple[Any, ...]
        if not torch.is_grad_enabled():  # the usual case, where microseconds count
            outputs = backward(ctx, *grads)
            return outputs
        with torch.no_grad():
            outputs = backward(ctx, *grads)
        # All of them are connected: an outer transform may differentiate by what this one does not.
        at = (*grads, *ctx.saved_tensors)
        return tuple(None if o is None else _first_derivative(o, *at) for o in outputs)

    return cast(_F, once)


class _FirstDerivative(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(derivative: Tensor, *at: Tensor | None) -> Tensor:
        return derivative.clone()  # no view: what becomes a .grad may be detached in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(_NO_SECOND)


def _first_derivative(derivative: Tensor, *at: Tensor | None) -> Tensor:
    """``derivative``, connected to ``at`` by a node that refuses to be differentiated."""
    result: Tensor = _FirstDerivative.apply(derivative, *at)  # type: ignore[no-untyped-call]
    return result


def value_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and distances of embeddings of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
