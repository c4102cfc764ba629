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


# Without it every call counts as being in a transform: slower, and right. torch.compile cannot tell
# then why it does not compile a transform.
transforms_active: Callable[[], bool] | None = internal("_C._are_functorch_transforms_active")

# Without it torch.func.functionalize refuses what has a gradient, with an error of its own.
is_functional: Callable[[Tensor], bool] = internal("_is_functional_tensor") or (lambda _: False)

# Calls an operator without its autograd. Without it the operator is called with its autograd, in
# an autograd.Function, where no gradient is recorded: 15 microseconds more.
below_autograd: Callable[[], AbstractContextManager[Any]] = (
    internal("_C._AutoDispatchBelowAutograd") or nullcontext
)

# torch.compile leaves a function alone. The public name loads the compiler at once: 2 seconds.
never_compiled: Callable[[Any], Any] = (
    internal("_compile._disable_dynamo") or torch.compiler.disable
)
