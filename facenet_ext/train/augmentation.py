"""Changes whole batches of images, or of sequences, on the training device."""

from __future__ import annotations

import kornia.augmentation as kornia
import torch
from torch import Tensor, nn

from facenet_ext.embedding.crop_resize import CropResize
from facenet_ext.embedding.options import AugmentationOptions
from facenet_ext.train.draws import Rows, params_of


class Augmentation(nn.Sequential):
    """Change each image of a training batch at random.

    First :class:`CropResize`, then light and noise by kornia. Random numbers are from torch's
    global generator.

    Args:
        options: how strong each change is; 0 leaves it out.
        crop: central share of the images to keep, in (0, 1].
        size: height and width of the network's input, pixels.

    Example:
        >>> import torch
        >>> augment = Augmentation(AugmentationOptions(flip=True, erasing=0.5), crop=0.9, size=64)
        >>> images = torch.zeros(2, 1, 96, 96, dtype=torch.uint8)
        >>> augment(images).shape
        torch.Size([2, 1, 64, 64])

    Source: the geometry extends the FaceNet paper's "scaled and translated" crops.
    """

    def __init__(self, options: AugmentationOptions, crop: float, size: int) -> None:
        def around_one(most: float) -> tuple[float, float]:
            return (1 - most, 1 + most)

        o = options
        steps: dict[str, tuple[float, nn.Module]] = {
            "blur": (o.blur, kornia.RandomGaussianBlur((5, 5), (0.4, 1.2), p=o.blur)),
            "brightness": (o.brightness, kornia.RandomBrightness(around_one(o.brightness), p=1.0)),
            "contrast": (o.contrast, kornia.RandomContrast(around_one(o.contrast), p=1.0)),
            "gamma": (o.gamma, kornia.RandomGamma(around_one(o.gamma), p=1.0)),
            "illumination": (
                o.illumination,
                kornia.RandomLinearIllumination(gain=(0.0, o.illumination), p=1.0),
            ),
            "noise": (o.noise, kornia.RandomGaussianNoise(std=o.noise, p=0.5)),
            "erasing": (
                o.erasing,
                kornia.RandomErasing((0.02, 0.2), (0.4, 2.5), value=0.5, p=o.erasing),
            ),
        }
        super().__init__()
        self.add_module("geometry", CropResize(crop, size, options))
        for name, (amount, step) in steps.items():
            if amount > 0:
                self.add_module(name, step)

    def forward(self, images: Tensor, rows: Rows | None = None) -> Tensor:
        """Return changed images.

        Args:
            images: ``[N, C, H, W]`` uint8.
            rows: those that the images are of a larger batch, for all of which is drawn.

        Returns:
            ``[N, C, size, size]`` float32 in [0, 1].
        """
        rows = rows or Rows(0, len(images), len(images))
        geometry, *steps = self
        images = geometry(images, rows=rows)
        for step in steps:
            images = step(images, params=params_of(step, images.shape, rows))
        return images


class Reversal(nn.Module):
    """Let half of the sequences of a training batch run backwards.

    Example:
        >>> sequences = torch.arange(3.0).expand(8, 1, 3)
        >>> sorted({tuple(row.tolist()) for row in Reversal()(sequences)[:, 0]})
        [(0.0, 1.0, 2.0), (2.0, 1.0, 0.0)]

    Source: this project.
    """

    def forward(self, sequences: Tensor, rows: Rows | None = None) -> Tensor:
        """Return [N, C, L].

        Args:
            sequences: ``[N, C, L]``.
            rows: those that they are of a larger batch, for all of which is drawn.
        """
        rows = rows or Rows(0, len(sequences), len(sequences))
        drawn = rows.of(torch.rand(rows.total, 1, 1, device=sequences.device))
        return torch.where(drawn < 0.5, sequences.flip(2), sequences)
