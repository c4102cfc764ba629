"""Private names of torch that have no public counterpart, each with a fallback.

A private name may disappear in any version of torch, so nothing else in this package uses one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def internal(name: str) -> Any:
    """The object of a dotted name in torch, such as "_C._functorch"; None if it is missing."""
    value: Any = torch
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


# If it is missing, every call is handled as inside a transform, which is correct but slower, and
# torch.compile cannot say why it does not compile a transform.
transforms_active: Callable[[], bool] | None = internal("_C._are_functorch_transforms_active")

# If it is missing, torch.func.functionalize raises for tensors that require a gradient.
is_functional: Callable[[Tensor], bool] = internal("_is_functional_tensor") or (lambda _: False)

# Calls an operator below its autograd. If it is missing, the operator is called with its autograd.
# An autograd.Function does so, where no gradient is recorded, so this only costs 15 microseconds.
below_autograd: Callable[[], AbstractContextManager[Any]] = (
    internal("_C._AutoDispatchBelowAutograd") or nullcontext
)

# Keeps torch.compile from a function. The public name would load the compiler at once: 2 seconds.
never_compiled: Callable[[Any], Any] = (
    internal("_compile._disable_dynamo") or torch.compiler.disable
)
