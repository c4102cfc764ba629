"""What random rules draw from."""

import torch
from torch import Tensor

from facenet_ext._rule import RANDOM


def draw_seed(
    negatives: str, generator: torch.Generator | None, device: torch.device
) -> Tensor | None:
    """One int64 ``[]`` on ``device`` from the generator, by default that device's own.

    None for rules that are not random: they leave the generator as it is. The seed is a tensor, so
    the host need not wait for the device, and a graph draws a new seed each time it is replayed.

    Raises:
        TypeError: a generator that is none.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {type(generator).__name__}"
        )
    if negatives not in RANDOM:
        return None
    drawn_on = device if generator is None else generator.device
    return torch.randint(2**63 - 1, (), generator=generator, device=drawn_on).to(device)
