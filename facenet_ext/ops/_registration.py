"""What the operators' registrations share."""

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


def register_fake(name: str) -> Callable[[_F], _F]:
    """``torch.library.register_fake`` with its type."""
    return cast(Callable[[_F], _F], torch.library.register_fake(name))


def register_vmap_as_loop(operator: Any) -> None:
    """``torch.func.vmap`` of an operator: a call per entry of the batch."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        calls = [
            operator(
                *(
                    argument if dim is None else argument.select(dim, entry)
                    for argument, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for entry in range(info.batch_size)
        ]
        if not calls:
            raise ValueError(f"{operator.name()}: expected a batch of at least one under vmap")
        if isinstance(calls[0], Tensor):
            return _stack(operator, calls), 0
        return tuple(_stack(operator, c) for c in zip(*calls, strict=True)), (0,) * len(calls[0])

    torch.library.register_vmap(operator, rule)


def _stack(operator: Any, tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(
            f"{operator.name()}: expected the same number of triplets from every entry of the "
            f"batch under vmap, got {sorted(shape[0] for shape in shapes)}; loop over it instead"
        )
    return torch.stack(tensors)


def differentiable_once(backward: _F) -> _F:
    """A backward whose results refuse to be differentiated.

    The gradients of these operators depend on the embeddings too, so a second derivative would
    otherwise be dropped in silence. ``torch.autograd.function.once_differentiable`` does not help.
    The node that it adds to the graph, which refuses, is connected to no tensor.
    ``torch.autograd.grad`` follows only paths to its inputs, and never reaches the node. Here the
    node is connected to every saved tensor that needs a gradient. So save the embeddings.
    """

    def once(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        outputs: tuple[Any, ...]
        if not torch.is_grad_enabled():  # the usual case, with microseconds to lose
            outputs = backward(ctx, *grads)
            return outputs
        with torch.no_grad():
            outputs = backward(ctx, *grads)
        at = [t for t in (*grads, *ctx.saved_tensors) if t is not None and t.requires_grad]
        return tuple(None if o is None else first_derivative(o, *at) for o in outputs)

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

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_SECOND)


def first_derivative(derivative: Tensor, *at: Tensor | None) -> Tensor:
    """``derivative``, which depends on ``at`` in a way that refuses to be differentiated.

    What :func:`differentiable_once` makes of a backward's results, and torch.func's transforms of
    theirs.
    """
    result: Tensor = _FirstDerivative.apply(derivative, *at)  # type: ignore[no-untyped-call]
    return result


def in_eager_mode(derivative: _F) -> _F:
    """A derivative that torch.compile leaves alone on its way through what it does not compile."""
    return cast(_F, _internals.never_compiled(derivative))


def value_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and distances of embeddings of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
