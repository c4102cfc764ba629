"""A layer that turns, scales and shifts images, so that a network behind it sees them straight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from facenet_ext._precision import full_precision
from facenet_ext.models.network import at_least_float32

_ZOOM = 0.3  # largest logarithm of the scale
_TURN = 0.4  # largest angle, radians
_SHIFT = 0.3  # largest shift, in half sides of the image


class Alignment(nn.Module):
    r"""Cut a straightened window out of images.

    .. math:: y(u) = x\left(w\, e^{s} R_\varphi\, u + c + t\right), \quad
        (s, \varphi, t) = \left(0.3\,p_1,\ 0.4\,p_2,\ (0.3\,p_3, 0.3\,p_4)\right), \quad
        p = \tanh g(x)

    Positions u run from -1 to 1 across and down, and g is a small convolutional network that sees
    the image at half the resolution. It learns from the loss of the embeddings alone and needs no
    landmarks. Before training it cuts out a window around c, a share w of height and width. Without
    g, p is 0, and the window stays there.

    Args:
        channels: 1 for grey images, 3 for colour.
        size: height and width of the images, pixels.
        aligned_size: height and width of the windows, pixels.
        window: w, in (0, 1].
        center: where c is across and down, from 0 to 1: (0.5, 0.5) is the image's centre.
        learned: whether there is a g, which learns to straighten.

    Raises:
        ValueError: ``window`` is not in (0, 1], or ``center`` not in [0, 1].

    Example:
        >>> align = Alignment(1, 32, 24).eval()
        >>> align(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 24, 24])

    Source: Jaderberg et al., *Spatial Transformer Networks*, NeurIPS 2015.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        aligned_size: int,
        window: float = 0.875,
        center: tuple[float, float] = (0.5, 0.5),
        *,
        learned: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < window <= 1:
            raise ValueError(f"window must be in (0, 1], got {window}")
        if not all(0 <= place <= 1 for place in center):
            raise ValueError(f"center must be in [0, 1], got {center}")
        self.window = window
        self.center = center
        self.aligned_size = aligned_size
        self.pose: nn.Sequential | None = None
        if not learned:
            return
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        size //= 2
        for inputs, outputs in ((channels, 16), (16, 32), (32, 32)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            size = (size + 1) // 2
        last = nn.Linear(64, 4)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        layers += [nn.Flatten(), nn.Linear(32 * size * size, 64), nn.ReLU(inplace=True), last]
        self.pose = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return [N, C, aligned_size, aligned_size] of [N, C, size, size]."""
        theta = self.positions(images)
        with full_precision(images):  # half precision blurs positions
            x = at_least_float32(images)
            shape = [x.shape[0], x.shape[1], self.aligned_size, self.aligned_size]
            grid = affine_grid(theta, shape, align_corners=False)
            window = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        return window.contiguous(memory_format=torch.channels_last)

    def positions(self, images: Tensor) -> Tensor:
        """Return where each image's window lies: [N, 2, 3], from u to positions in the image."""
        pose = images.new_zeros(len(images), 4) if self.pose is None else self.pose(images)
        with full_precision(images):
            pose = at_least_float32(pose)
            zoom, turn, right, down = torch.tanh(pose).unbind(1)
            scale = self.window * torch.exp(_ZOOM * zoom)
            cos, sin = scale * torch.cos(_TURN * turn), scale * torch.sin(_TURN * turn)
            x_center, y_center = (2 * place - 1 for place in self.center)
            rows = [cos, -sin, x_center + _SHIFT * right, sin, cos, y_center + _SHIFT * down]
            return torch.stack(rows, 1).view(-1, 2, 3)
