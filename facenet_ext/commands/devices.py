"""Where a command computes."""

from __future__ import annotations

import torch

from facenet_ext.common.errors import InputError


def find_device(name: str) -> torch.device:
    """Return a device by its name.

    Raises:
        InputError: there is no such device here.
    """
    try:
        device = torch.device(name)
        bool(torch.zeros(1, device=device).isfinite().all())
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: cannot be used ({str(error).splitlines()[0]})"
        ) from None
    return device
