"""Changes the speed of spectrograms, and with it the pitch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

HIGHEST = 8000.0
"""Hertz of the highest band's upper edge, half of the usual sampling rate of speech."""


def change_speed(spectrograms: Tensor, speed: Tensor | float) -> Tensor:
    r"""Return spectrograms as of recordings that are played faster or slower.

    .. math:: y(f, t) = x(f / s, s t)

    All frequencies move by the factor s, as with a shorter vocal tract: to a network it is another
    speaker. The length stays: a faster recording is continued by its mirror image.

    Args:
        spectrograms: [N, bands, length]; the bands are evenly spaced on the mel scale, from 0 to
            8 kHz.
        speed: s above 0, of all or [N] of each.

    Returns:
        [N, bands, length].

    Example:
        >>> tone = torch.zeros(1, 40, 9)
        >>> tone[:, 20] = 1.0
        >>> change_speed(tone, 1.2)[0, :, 4].argmax()
        tensor(22)

    Source: Ko et al., *Audio Augmentation for Speech Recognition*, Interspeech 2015; mel =
    2595 log10(1 + f / 700) is O'Shaughnessy's.
    """
    n, bands, length = spectrograms.shape
    device = spectrograms.device
    s = torch.as_tensor(speed, dtype=torch.float32, device=device).expand(n)[:, None]
    highest = _mel(torch.tensor(HIGHEST, device=device))
    band = torch.arange(1, bands + 1, device=device) / (bands + 1)
    hertz = 700 * (10 ** (band * highest / 2595) - 1)
    y = _mel(hertz / s) / highest * (bands + 1) - 1  # the position to read, in bands
    middle = (length - 1) / 2
    x = middle + s * (torch.arange(length, device=device) - middle)
    x, y = (2 * x + 1) / length - 1, (2 * y + 1) / bands - 1
    grid = torch.stack(
        [x[:, None].expand(n, bands, length), y[:, :, None].expand(n, bands, length)], 3
    )
    images = spectrograms[:, None]
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)[:, 0]


def _mel(hertz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hertz / 700)
