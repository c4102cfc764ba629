"""Whether torch.func's transforms or forward-mode differentiation are at work."""

import torch
from torch import Tensor

from facenet_ext import _internals


def transforms_active() -> bool:
    """Whether this is called under ``vmap``, ``grad``, ``jvp`` and the like, or in a dual level.

    The package then calls operators through an ``autograd.Function``. Transforms refuse what
    ``register_autograd`` makes, and forward mode ignores it. torch.compile can trace neither.

    Raises:
        RuntimeError: both are at work. torch.compile runs that part eagerly then, or with
            ``fullgraph=True`` says so.
    """
    if torch.compiler.is_compiling():
        transforms = _internals.transforms_compiling
        if (transforms is not None and transforms()) or _internals.dual_level() >= 0:
            raise RuntimeError(
                "facenet_ext cannot be compiled inside torch.func's transforms or forward mode: "
                "compile what is around them, or nothing"
            )
        return False
    if _internals.interpreter is None:
        return True
    transform = _internals.interpreter()
    if transform is None:
        return _internals.dual_level() >= 0
    # It takes operators as they are, and an autograd.Function not at all.
    return bool(transform.key() != _internals.functionalizes)


def values_readable(*tensors: Tensor | None) -> bool:
    """Whether tensors have values that can be read, and do not stand for others.

    As they do for a tracer, in a fake mode and in torch.func's transforms. Ask first whether
    torch.compile is at work: it cannot pass on tensors of a transform, not even to this function.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or _internals.interpreter is None or _internals.interpreter() is not None:
        return False
    for tensor in tensors:  # noqa: SIM110  # all(...) takes as long as all the rest
        if tensor is not None and type(tensor) is not Tensor:
            return False
    return True
