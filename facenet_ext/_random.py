"""What random rules draw from."""

import torch
from torch import Tensor

RANDOM = ("random_semihard", "random_violating", "distance_weighted")


def draw_seed(
    negatives: str, generator: torch.Generator | None, device: torch.device
) -> Tensor | None:
    """One int64 ``[]`` on ``device`` from the generator, by default that device's own.

    None for rules that are not random: they leave the generator as it is. The seed is a tensor, so
    the host need not wait for the device, and a graph draws a new seed each time it is replayed.
    """
    if negatives not in RANDOM:
        return None
    drawn_on = device if generator is None else generator.device
    return torch.randint(2**63 - 1, (), generator=generator, device=drawn_on).to(device)
