"""What torch has no public name for, each with what does where a torch lacks it.

A private name may go with any version of torch, so nothing else in this package uses one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def internal(name: str) -> Any:
    """The object of torch of a dotted name, such as "_C._functorch"; None where there is none."""
    found: Any = torch
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# Tensors in torch.func's transforms and in forward mode. Without the first, everything counts as
# being in one (slower, and right); torch.compile then does not look for them.
interpreter: Callable[[], Any] | None = internal("_C._functorch.peek_interpreter_stack")
functionalizes: Any = internal("_C._functorch.TransformType.Functionalize")
transforms_compiling: Callable[[], bool] | None = internal("_C._are_functorch_transforms_active")


_DUAL_LEVEL = "_current_level"


def dual_level() -> int:
    """The level of forward mode, -1 outside of it."""
    return getattr(torch.autograd.forward_ad, _DUAL_LEVEL, -1)


_BATCHED = tuple(
    internal(f"_C._functorch.{name}") for name in ("is_batchedtensor", "is_legacy_batchedtensor")
)


def maybe_batched(value: Tensor) -> bool:
    """Whether ``vmap`` may have made it, which knows no ``out=``."""
    return any(ask is None or ask(value) for ask in _BATCHED)


# Calls an operator without its autograd. Without it the operator is called with its autograd, in
# an autograd.Function, where no gradient is recorded: 80 microseconds more.
below_autograd: Callable[[], AbstractContextManager[Any]] = (
    internal("_C._AutoDispatchBelowAutograd") or nullcontext
)

# torch.compile leaves a function alone. The public name loads the compiler at once: 2 seconds.
never_compiled: Callable[[Any], Any] = (
    internal("_compile._disable_dynamo") or torch.compiler.disable
)
