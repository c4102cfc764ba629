"""``facenet_ext::pairwise_squared_distance``: x [M, D], y [N, D] or None -> [M, N]."""

from typing import Any

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._precision import full_precision
from facenet_ext._transforms import needs_function
from facenet_ext.ops._registration import register_fake, register_gradient, value_type

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
    """Both minus the mean of ``x``, so that a common offset costs no digits."""
    origin = x.detach().to(dtype).mean(0, keepdim=True) if x.shape[0] else 0
    return x.to(dtype) - origin, y.to(dtype) - origin


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    # d(i, j) = |x_i - y_j|^2 pushes x_i by 2 g_ij (x_i - y_j). Plain differentiable operations,
    # so that second derivatives exist. Autocast would compute the products in half precision.
    x, y = ctx.saved_tensors
    with full_precision(x):
        x_c, y_c = _about_the_mean(x, y, grad.dtype)
        x_grad = 2 * (grad.sum(1, keepdim=True) * x_c - grad @ y_c)
        y_grad = None
        if ctx.self_mode:
            x_grad = x_grad + 2 * (grad.sum(0).unsqueeze(1) * x_c - grad.t() @ x_c)
        elif ctx.needs_input_grad[1]:
            y_grad = (2 * (grad.sum(0).unsqueeze(1) * y_c - grad.t() @ x_c)).to(y.dtype)
        return x_grad.to(x.dtype), y_grad


_Function = register_gradient(_OPERATOR, _backward, _setup_context)


def pairwise_squared_distance(x: Tensor, y: Tensor | None) -> Tensor:
    """Squared Euclidean distances of all rows: see ``functional``."""
    call: Any = _Function.apply if needs_function(x, y) else _OPERATOR
    result: Tensor = call(x, y)
    return result
