"""``facenet_ext::mined_triplet_loss``: the loss [] and, from the same pass, its gradients."""

from typing import Any

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._validation import Batch
from facenet_ext.ops._registration import register_fake, value_type

_NAME = "facenet_ext::mined_triplet_loss"
_ARGUMENTS = 16


@register_fake(_NAME)
def _fake(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    anchor_ids: Tensor | None,
    ref_ids: Tensor | None,
    positives: str,
    negatives: str,
    margin: float,
    within_margin: bool,
    fallback: str,
    distance: str,
    smooth: bool,
    reduction: str,
    emb_grad: bool,
    ref_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    value = value_type(emb.dtype)
    dim = emb.shape[1]
    emb_rows = emb.shape[0] if emb_grad else 0
    ref_rows = ref_emb.shape[0] if ref_grad and ref_emb is not None else 0
    return (
        emb.new_empty((), dtype=value),
        emb.new_empty((emb_rows, dim), dtype=value),
        emb.new_empty((ref_rows, dim), dtype=value),
    )


def _setup_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, emb_grad, ref_grad = output
    ctx.has_emb_grad, ctx.has_ref_grad = inputs[-2:]
    ctx.dtype = inputs[0].dtype
    ctx.mark_non_differentiable(emb_grad, ref_grad)
    ctx.save_for_backward(emb_grad, ref_grad)


def _backward(ctx: Any, grad: Tensor, _emb: Any, _ref: Any) -> tuple[Tensor | None, ...]:
    # In the accumulation type up to here: a loss scale must reach the product before the cast.
    emb_grad, ref_grad = ctx.saved_tensors
    result: list[Tensor | None] = [None] * _ARGUMENTS
    if ctx.has_emb_grad:
        result[0] = (emb_grad * grad).to(ctx.dtype)
    if ctx.has_ref_grad:
        result[2] = (ref_grad * grad).to(ctx.dtype)
    return tuple(result)


torch.library.register_autograd(_NAME, _backward, setup_context=_setup_context)


class _MinedTripletLoss(torch.autograd.Function):
    """The operator's gradient for eager mode, without ``register_autograd``'s wrapper.

    The same two functions as above. The wrapper alone takes as long as the kernel does on a batch
    of 64 (80 of 160 microseconds were measured), so it is left to ``torch.compile``, which traces
    it away, and to direct calls of the operator.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            output = torch.ops.facenet_ext.mined_triplet_loss.default(*inputs)
        _setup_context(ctx, inputs, output)
        loss: Tensor = output[0]
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grads[0], None, None)


def mined_triplet_loss(
    batch: Batch,
    positives: str,
    negatives: str,
    margin: float,
    within_margin: bool,
    fallback: str,
    distance: str,
    smooth: bool,
    reduction: str,
) -> Tensor:
    """The reduced loss, a scalar: see ``functional``."""
    differentiable = torch.is_grad_enabled()
    emb_grad = differentiable and batch.emb.requires_grad
    ref_grad = differentiable and batch.ref_emb is not None and batch.ref_emb.requires_grad
    arguments = (
        *batch.tensors(),
        positives,
        negatives,
        margin,
        within_margin,
        fallback,
        distance,
        smooth,
        reduction,
        emb_grad,
        ref_grad,
    )
    loss: Tensor
    if (emb_grad or ref_grad) and not torch.compiler.is_compiling():
        loss = _MinedTripletLoss.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        loss, _, _ = torch.ops.facenet_ext.mined_triplet_loss(*arguments)
    return loss
