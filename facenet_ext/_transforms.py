"""Whether torch.func's transforms or forward-mode differentiation are at work."""

import torch
from torch.autograd import forward_ad


def transforms_active() -> bool:
    """Whether this is called under ``vmap``, ``grad``, ``jvp`` and the like, or in a dual level.

    Operators are called through an ``autograd.Function`` then: transforms refuse what
    ``register_autograd`` makes, and forward mode passes it by. torch.compile can trace neither.

    Raises:
        RuntimeError: both are at work. torch.compile runs that part eagerly then, or with
            ``fullgraph=True`` says so.
    """
    if torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            raise RuntimeError(
                "facenet_ext cannot be compiled inside torch.func's transforms or forward mode: "
                "compile what is around them, or nothing"
            )
        return False
    transform = torch._C._functorch.peek_interpreter_stack()
    if transform is None:
        return forward_ad._current_level >= 0
    # It takes operators as they are, and an autograd.Function not at all.
    return transform.key() != torch._C._functorch.TransformType.Functionalize
