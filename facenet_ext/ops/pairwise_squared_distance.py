"""``facenet_ext::pairwise_squared_distance``: x [M, D], y [N, D] or None -> [M, N]."""

from typing import Any

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._transforms import transforms_active
from facenet_ext.ops._registration import (
    in_eager_mode,
    register_fake,
    register_vmap_as_loop,
    value_type,
)

_NAME = "facenet_ext::pairwise_squared_distance"
_OPERATOR = torch.ops.facenet_ext.pairwise_squared_distance.default


@register_fake(_NAME)
def _fake(x: Tensor, y: Tensor | None) -> Tensor:
    columns = x.shape[0] if y is None else y.shape[0]
    return x.new_empty((x.shape[0], columns), dtype=value_type(x.dtype))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
    x, y = inputs
    ctx.self_mode = y is None
    ctx.save_for_backward(x, x if y is None else y)


def _about_the_mean(x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Both without a common offset, which then costs no digits."""
    origin = x.detach().to(dtype).mean(0, keepdim=True) if x.shape[0] else 0
    return x.to(dtype) - origin, y.to(dtype) - origin


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    # d(i, j) = |x_i - y_j|^2 pushes x_i by 2 g_ij (x_i - y_j). Plain differentiable operations,
    # so that second derivatives exist. Not in the type that autocast likes products in.
    x, y = ctx.saved_tensors
    with torch.autocast(x.device.type, enabled=False):
        x_c, y_c = _about_the_mean(x, y, grad.dtype)
        x_grad = 2 * (grad.sum(1, keepdim=True) * x_c - grad @ y_c)
        y_grad = None
        if ctx.self_mode:
            x_grad = x_grad + 2 * (grad.sum(0).unsqueeze(1) * x_c - grad.t() @ x_c)
        elif ctx.needs_input_grad[1]:
            y_grad = (2 * (grad.sum(0).unsqueeze(1) * y_c - grad.t() @ x_c)).to(y.dtype)
        return x_grad.to(x.dtype), y_grad


torch.library.register_autograd(_NAME, _backward, setup_context=_setup_context)
register_vmap_as_loop(_OPERATOR)


class _PairwiseSquaredDistance(torch.autograd.Function):
    """The same for torch.func's transforms, with a forward-mode derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor | None) -> Tensor:
        return _OPERATOR(x, y)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
        _setup_context(ctx, inputs, output)
        x, y = inputs
        ctx.save_for_forward(x, x if y is None else y)

    @staticmethod
    @in_eager_mode
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:
        return _backward(ctx, grads[0])

    @staticmethod
    @in_eager_mode
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        # 2 (x_i - y_j) . (x'_i - y'_j)
        x, y = ctx.saved_tensors
        x_t, y_t = (tangents[0], tangents[0]) if ctx.self_mode else tangents
        dtype = value_type(x.dtype)
        x_c, y_c = _about_the_mean(x, y, dtype)
        result = x_c.new_zeros(x_c.shape[0], y_c.shape[0])
        if x_t is not None:
            x_t = x_t.to(dtype)
            result = result + ((x_c * x_t).sum(1, keepdim=True) - x_t @ y_c.t())
        if y_t is not None:
            y_t = y_t.to(dtype)
            result = result + ((y_c * y_t).sum(1) - x_c @ y_t.t())
        return 2 * result


def pairwise_squared_distance(x: Tensor, y: Tensor | None) -> Tensor:
    """Squared Euclidean distances of all rows: see ``functional``."""
    call: Any = _PairwiseSquaredDistance.apply if transforms_active() else _OPERATOR
    result: Tensor = call(x, y)
    return result
