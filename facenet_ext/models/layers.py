"""The layers of the FaceNet paper that torch does not have, and convolutions with a ReLU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class L2Pool(nn.Module):
    r"""Pool by the root of the sum of squares over 3x3 windows of stride 1.

    .. math:: y = \sqrt{\textstyle\sum_{3 \times 3} x^2 + \epsilon}

    Without epsilon the gradient of a window of zeros, common after a ReLU, would be NaN.

    Example:
        >>> import torch
        >>> pooled = L2Pool()(torch.ones(1, 1, 3, 3))
        >>> round(pooled[0, 0, 1, 1].item(), 4), round(pooled[0, 0, 0, 0].item(), 4)
        (3.0, 2.0)

    Source: FaceNet, table 2 and section 3.3 (L2 pooling in place of max pooling).
    """

    epsilon = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W] from the same."""
        return (9 * avg_pool2d(x.square(), 3, stride=1, padding=1) + self.epsilon).sqrt()


class Maxout(nn.Module):
    """A layer in which each output is the largest of ``pieces`` linear functions of the input.

    Args:
        inputs: length of an input.
        outputs: length of an output.
        pieces: linear functions for each output.

    Example:
        >>> import torch
        >>> Maxout(8, 4)(torch.zeros(2, 8)).shape
        torch.Size([2, 4])

    Source: Goodfellow et al., *Maxout Networks*, ICML 2013; FaceNet, table 1, fc1 and fc2.
    """

    def __init__(self, inputs: int, outputs: int, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, outputs * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs] from [N, inputs]."""
        largest: Tensor = self.linear(x).reshape(x.shape[0], -1, self.pieces).amax(2)
        return largest


class MaxPool(nn.MaxPool2d):
    """Maxima over 3x3 windows; with stride 2 an odd size rounds up: 55 to 28."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__(3, stride=stride, padding=1)


def positions_after(halvings: int, size: tuple[int, int]) -> int:
    """Return the positions of a feature map after layers of stride 2, each rounding up.

    Example:
        >>> positions_after(4, (112, 112))
        49
    """
    height, width = (-(-side // (1 << halvings)) for side in size)
    return height * width


def norm(batch_norm: bool) -> nn.Module:
    """Return the paper's response normalisation; nothing with batch normalisation in its place."""
    return nn.Identity() if batch_norm else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)


def conv(
    inputs: int, outputs: int, size: int, stride: int = 1, *, batch_norm: bool
) -> nn.Sequential:
    """Return a convolution and its ReLU; padding keeps the image's size, but for the stride.

    Args:
        inputs: channels in.
        outputs: channels out.
        size: of the kernel, odd.
        stride: 1 or 2.
        batch_norm: normalise before the ReLU; the convolution then needs no bias.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=not batch_norm)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
