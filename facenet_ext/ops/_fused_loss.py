"""Autograd of the operators that return a loss [] together with its gradients.

Their schemas begin with (emb, labels, ref_emb, ...) and end in (str reduction, bool emb_grad,
bool ref_grad) -> (loss, emb_grad, ref_grad, totals). The backward is one multiplication.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from facenet_ext import _internals
from facenet_ext._transforms import needs_function
from facenet_ext._validation import Batch
from facenet_ext.ops._registration import (
    differentiable_once,
    register_fake,
    register_gradient,
    value_type,
)


class FusedLoss:
    """``facenet_ext::NAME`` with its fake and its gradient registered.

    Args:
        name: of the operator.
        arguments: the number of arguments in its schema.
    """

    def __init__(self, name: str, arguments: int) -> None:
        self._operator = getattr(torch.ops.facenet_ext, name).default

        def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
            emb_grad, ref_grad = _input_gradients(ctx, grads[0])
            return emb_grad, None, ref_grad, *(None,) * (arguments - 3)

        register_fake(f"facenet_ext::{name}")(_fake)
        self._function = register_gradient(
            self._operator, differentiable_once(backward), _setup_context
        )

    def __call__(self, batch: Batch, *options: Any, has_negatives: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            batch: of one process, or this rank's.
            options: the arguments between the batch and the flags.
            has_negatives: see :meth:`.Across.loss`.
        """
        if batch.across is None:
            return self._loss(batch, options, None)
        compute = functools.partial(self._loss, batch, options)
        return batch.across.loss(compute, options[-1], has_negatives)

    def _loss(self, batch: Batch, options: tuple[Any, ...], totals: list[Tensor] | None) -> Tensor:
        """The loss of these anchors; their totals are appended where there is a list."""
        transformed = needs_function(batch.emb, batch.ref_emb)
        differentiable = torch.is_grad_enabled()
        emb_grad = transformed or (differentiable and batch.emb.requires_grad)
        ref_grad = batch.ref_emb is not None and (
            transformed or (differentiable and batch.ref_emb.requires_grad)
        )
        arguments = (*batch.tensors(), *options, emb_grad, ref_grad)
        loss: Tensor
        if (emb_grad or ref_grad) and not transformed and not torch.compiler.is_compiling():
            loss = _EagerLoss.apply(  # type: ignore[no-untyped-call]
                batch.emb, batch.ref_emb, self._operator, arguments, totals
            )
            return loss
        call = self._function.apply if transformed else self._operator
        loss, *_, of_all = call(*arguments)
        if totals is not None:
            totals.append(of_all)
        return loss


class _EagerLoss(torch.autograd.Function):
    """The operator's gradient for eager mode, without ``register_autograd``'s wrapper.

    That wrapper alone takes as long as the kernel does on a batch of 64 (80 of 160 microseconds
    were measured), so it is left to ``torch.compile``, which traces it away, and to direct calls
    of the operator. Only what may need a gradient is an argument of its own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        emb: Tensor,
        ref_emb: Tensor | None,
        operator: Any,
        arguments: tuple[Any, ...],
        totals: list[Tensor] | None,
    ) -> Tensor:
        with _internals.below_autograd():
            output = operator(*arguments)
        if totals is not None:
            totals.append(output[3])
        _save_gradients(ctx, arguments, output)
        return output[0]  # type: ignore[no-any-return]

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return *_input_gradients(ctx, grads[0]), None, None, None


def _fake(
    emb: Tensor, labels: Tensor, ref_emb: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    emb_grad, ref_grad = rest[-2:]
    value = value_type(emb.dtype)
    dim = emb.shape[1]
    emb_rows = emb.shape[0] if emb_grad else 0
    ref_rows = ref_emb.shape[0] if ref_grad and ref_emb is not None else 0
    return (
        emb.new_empty((), dtype=value),
        emb.new_empty((emb_rows, dim), dtype=value),
        emb.new_empty((ref_rows, dim), dtype=value),
        emb.new_empty((3,), dtype=torch.float64),
    )


def _save_gradients(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    ctx.has_emb_grad, ctx.has_ref_grad = inputs[-2:]
    emb, _, ref_emb, *_ = inputs
    ctx.dtype = emb.dtype
    # The embeddings are saved only to refuse second derivatives. A bank without a gradient is not
    # saved, so it may be overwritten.
    flags = (ctx.has_emb_grad, ctx.has_ref_grad)
    at = [rows for rows, has_grad in zip((emb, ref_emb), flags, strict=True) if has_grad]
    ctx.save_for_backward(*output[1:3], *at)


def _setup_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    _save_gradients(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[1:])


def _scaled(gradient: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
    """The product in ``dtype``, rounded once: a loss scale must be applied before the cast.

    It goes straight into a tensor of this type, so that no wider one is made on the way.
    """
    if gradient.dtype == dtype:
        return gradient * grad
    try:
        return torch.mul(gradient, grad, out=gradient.new_empty(gradient.shape, dtype=dtype))
    except RuntimeError:  # jacrev runs the backward under vmap, which has no out=
        return (gradient * grad).to(dtype)


def _input_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    emb_grad, ref_grad, *_ = ctx.saved_tensors
    return (
        _scaled(emb_grad, grad, ctx.dtype) if ctx.has_emb_grad else None,
        _scaled(ref_grad, grad, ctx.dtype) if ctx.has_ref_grad else None,
    )
