"""The seed of random rules."""

import torch
from torch import Tensor

from facenet_ext._rule import RANDOM


def draw_seed(
    negatives: str, generator: torch.Generator | None, device: torch.device
) -> Tensor | None:
    """Draws a seed, int64 ``[]`` on ``device``, from the generator, by default the device's own.

    Other rules draw nothing and get None. The seed is a tensor, so that the host need not wait for
    the device, and a graph draws a new seed each time it is replayed.

    Raises:
        TypeError: ``generator`` is neither a generator nor None.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {type(generator).__name__}"
        )
    if negatives not in RANDOM:
        return None
    drawn_on = device if generator is None else generator.device
    return torch.randint(2**63 - 1, (), generator=generator, device=drawn_on).to(device)
