"""Whether torch.func's transforms or forward-mode differentiation are at work."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from facenet_ext import _internals


def transforms_active() -> bool:
    """Whether this is called inside ``grad``, ``vjp``, ``functionalize`` or another transform.

    Raises:
        RuntimeError: torch.compile traces a transform. It then runs that part eagerly, or shows
            this error with ``fullgraph=True``.
    """
    active = _internals.transforms_active
    if torch.compiler.is_compiling():
        if active is not None and active():
            raise RuntimeError(
                "facenet_ext cannot be compiled inside torch.func's transforms: "
                "compile what is around them, or nothing"
            )
        return False
    return active is None or active()


def needs_function(emb: Tensor, ref_emb: Tensor | None) -> bool:
    """Whether an operator of these embeddings has to be called through an ``autograd.Function``.

    Transforms raise for an operator of ``register_autograd``, and forward mode ignores its
    gradient. ``functionalize`` takes the operator itself, and no ``autograd.Function``.
    """
    if transforms_active():
        return not _internals.is_functional(emb)
    if torch.compiler.is_compiling():
        return False
    return _has_tangent(emb) or (ref_emb is not None and _has_tangent(ref_emb))


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def values_readable(*tensors: Tensor | None) -> bool:
    """Whether tensors have values that can be read.

    Tensors of a tracer, of a fake mode and of torch.func's transforms only stand for others. Do not
    call this in a compilation: torch.compile cannot pass on tensors of a transform.
    """
    if torch.jit.is_tracing() or transforms_active():  # type: ignore[attr-defined, no-untyped-call]
        return False
    for tensor in tensors:  # noqa: SIM110  # all(...) takes as long as all the rest
        if tensor is not None and type(tensor) is not Tensor:
            return False
    return True
