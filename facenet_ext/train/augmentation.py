"""Changes whole batches of images on the training device."""

from __future__ import annotations

import math

import kornia.augmentation as kornia
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from facenet_ext.train.options import AugmentationOptions

__all__ = ["Augmentation", "CropResize"]


class CropResize(nn.Module):
    """Cut the centre out of uint8 images and scale it to the network's input.

    With ``augment`` each image is also moved, turned, scaled, sheared and mirrored at random. All
    of it is one bilinear resampling: at 96 pixels and 64 wanted, that takes a quarter of the time
    of an affine map at full size with a resize after it, and what moves in from outside the crop
    is the real image, not padding.

    Args:
        crop: central share of height and width to keep, in (0, 1].
        size: height and width to return, pixels.
        augment: how far to move at most, or None.
    """

    def __init__(self, crop: float, size: int, augment: AugmentationOptions | None = None) -> None:
        super().__init__()
        self.crop = crop
        self.size = size
        self.augment = augment

    def forward(self, images: Tensor, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """Return [N, C, size, size] float32 in [0, 1] from [N, C, H, W] uint8.

        The crop's centre is moved by ``shift``, right and down, shares of the image.
        """
        pixels = images.float() / 255
        n, channels = images.shape[:2]
        theta = self._theta(n, images.device)
        theta[:, :, 2] += 2 * torch.tensor(shift, device=images.device)
        grid = affine_grid(theta, [n, channels, self.size, self.size], align_corners=False)
        return grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)

    def _theta(self, n: int, device: torch.device) -> Tensor:
        """Return [n, 2, 3]: the map from output to input positions, both from -1 to 1."""
        theta = torch.zeros(n, 2, 3, device=device)
        theta[:, 0, 0] = theta[:, 1, 1] = self.crop
        if self.augment is None:
            return theta

        def uniform(most: float) -> Tensor:
            return (torch.rand(n, device=device) * 2 - 1) * most

        a = self.augment
        angle = uniform(math.radians(a.rotation))
        scale = self.crop * torch.exp(uniform(a.scale))
        stretch = torch.exp(uniform(a.aspect / 2))
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        theta[:, 0, 0], theta[:, 0, 1] = cos * stretch, -sin + uniform(a.shear) * scale
        theta[:, 1, 0], theta[:, 1, 1] = sin, cos / stretch
        theta[:, 0, 2], theta[:, 1, 2] = uniform(2 * a.translation), uniform(2 * a.translation)
        if a.flip:
            mirrored = torch.rand(n, device=device) < 0.5
            theta[:, :, 0] = torch.where(mirrored[:, None], -theta[:, :, 0], theta[:, :, 0])
        return theta


class Augmentation(nn.Sequential):
    """Make a training batch's images differ from how they were taken.

    First :class:`CropResize`, then light and noise by kornia, each image by itself. Randomness is
    torch's global generator.

    Args:
        options: how much of each; what is 0 is left out.
        crop: central share of the images to keep, in (0, 1].
        size: height and width of the network's input, pixels.

    Example:
        >>> augment = Augmentation(AugmentationOptions(flip=True, erasing=0.5), crop=0.9, size=64)
        >>> images = torch.zeros(2, 1, 96, 96, dtype=torch.uint8)
        >>> augment(images).shape
        torch.Size([2, 1, 64, 64])

    Source: the geometry is that of the FaceNet paper's "scaled and translated", widened.
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
