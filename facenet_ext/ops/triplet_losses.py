"""``facenet_ext::triplet_losses``: the loss of each given triplet, [T]."""

from typing import Any

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._transforms import needs_function
from facenet_ext.ops._registration import (
    differentiable_once,
    register_fake,
    register_gradient,
    value_type,
)

_NAME = "facenet_ext::triplet_losses"
_OPERATOR = torch.ops.facenet_ext.triplet_losses.default
_BACKWARD = torch.ops.facenet_ext.triplet_losses_backward.default


@register_fake(_NAME)
def _fake(
    emb: Tensor,
    ref_emb: Tensor | None,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    distance: str,
    smooth: bool,
    swap: bool,
) -> Tensor:
    return emb.new_empty(anchor.shape, dtype=value_type(emb.dtype))


@register_fake(_NAME + "_backward")
def _fake_backward(
    grad: Tensor,
    emb: Tensor,
    ref_emb: Tensor | None,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    distance: str,
    smooth: bool,
    swap: bool,
) -> tuple[Tensor, Tensor]:
    value = value_type(emb.dtype)
    emb_grad = emb.new_empty(emb.shape, dtype=value)
    ref_rows = 0 if ref_emb is None else ref_emb.shape[0]
    return emb_grad, emb.new_empty((ref_rows, emb.shape[1]), dtype=value)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    emb, ref_emb, anchor, positive, negative, *ctx.options = inputs
    ctx.self_mode = ref_emb is None
    bank = () if ref_emb is None else (ref_emb,)
    ctx.save_for_backward(emb, anchor, positive, negative, *bank)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    emb, anchor, positive, negative, *bank = ctx.saved_tensors
    ref_emb = bank[0] if bank else None
    emb_grad, ref_grad = _BACKWARD(grad, emb, ref_emb, anchor, positive, negative, *ctx.options)
    return (
        emb_grad.to(emb.dtype),
        None if ref_emb is None else ref_grad.to(ref_emb.dtype),
        *(None,) * 7,
    )


_Function = register_gradient(_OPERATOR, differentiable_once(_backward), _setup_context)


def triplet_losses(
    emb: Tensor,
    ref_emb: Tensor | None,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    distance: str,
    smooth: bool,
    swap: bool,
) -> Tensor:
    """The loss of each triplet, [T]: see ``functional.triplet_loss``."""
    call: Any = _Function.apply if needs_function(emb, ref_emb) else _OPERATOR
    result: Tensor = call(emb, ref_emb, anchor, positive, negative, margin, distance, smooth, swap)
    return result
