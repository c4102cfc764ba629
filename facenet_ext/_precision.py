"""Arithmetic that autocast may not lower."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which nothing of a tensor's device is computed in lower precision."""
    if not torch.amp.is_autocast_available(x.device.type):  # of tensors without data
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
