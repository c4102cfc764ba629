"""A small residual network for small aligned images, made to train on a laptop."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from facenet_ext.models.alignment import Alignment
from facenet_ext.models.network import EmbeddingNetwork


class SmallNet(EmbeddingNetwork):
    """Embed small aligned images with a shallow residual network.

    A 5x5 convolution of stride 2, then stages of residual blocks in which every stage but the first
    halves the resolution and doubles the width, then one linear layer over all positions: aligned
    images have the same feature at the same place, which pooling would throw away.

    This network is facenet_ext's own; it is not one of the FaceNet paper's.

    Args:
        channels: 1 for grey images, 3 for colour.
        embedding_dim: D, the length of an embedding.
        input_size: height and width of the images, pixels.
        width: channels of the first stage.
        stages: residual blocks in each stage.
        dropout: share of the last feature map that training drops, in [0, 1).
        aligned_size: height and width, pixels, of the straightened window that
            :class:`.Alignment` cuts out of each image first; None takes the image as it is.
        aligned_window: share of the image's height and width in this window before training.
        aligned_center: where its centre is then, across and down, from 0 to 1.
        straighten: whether the window learns to move; False leaves it where it is.

    Raises:
        ValueError: the images, or the windows, are too small for that many stages, or the windows
            larger than the images; or ``aligned_window`` is not in (0, 1], or
            ``aligned_center`` not in [0, 1].

    Example:
        >>> import torch
        >>> network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
        >>> embeddings = network(torch.rand(2, 1, 16, 16))
        >>> embeddings.shape, torch.allclose(embeddings.norm(dim=1), torch.ones(2))
        (torch.Size([2, 128]), True)

    Source: this project; the residual block is He et al., *Deep Residual Learning for Image
    Recognition*, CVPR 2016, with the average-pooled shortcut of He et al., *Bag of Tricks for Image
    Classification with Convolutional Neural Networks*, CVPR 2019 (ResNet-D).
    """

    def __init__(
        self,
        channels: int = 1,
        embedding_dim: int = 128,
        *,
        input_size: int = 64,
        width: int = 32,
        stages: Sequence[int] = (1, 1, 1, 1),
        dropout: float = 0.2,
        aligned_size: int | None = None,
        aligned_window: float = 0.875,
        aligned_center: tuple[float, float] = (0.5, 0.5),
        straighten: bool = True,
    ) -> None:
        name, seen = "input_size", input_size
        layers: list[nn.Module] = []
        if aligned_size is not None:
            if aligned_size > input_size:
                raise ValueError(
                    f"aligned_size must be at most input_size, {input_size}, got {aligned_size}"
                )
            name, seen = "aligned_size", aligned_size
            layers.append(
                Alignment(
                    channels,
                    input_size,
                    aligned_size,
                    aligned_window,
                    aligned_center,
                    learned=straighten,
                )
            )
        if seen < 2 ** len(stages):
            raise ValueError(
                f"{name} must be at least {2 ** len(stages)} for {len(stages)} stages, got {seen}"
            )
        layers += [
            nn.Conv2d(channels, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        size, features = (seen + 1) // 2, width
        for stage, blocks in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(features, width * 2**stage, stride))
                size, features = (size + stride - 1) // stride, width * 2**stage
        super().__init__(
            nn.Sequential(*layers),
            features * size * size,
            embedding_dim,
            input_shape=(channels, input_size, input_size),
            dropout=dropout,
            bias=False,
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; before training only the shortcut counts."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        last_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(last_norm.weight)
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            last_norm,
        )
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or inputs != outputs:
            shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, features: Tensor) -> Tensor:
        """Return [N, outputs, ...] from [N, inputs, H, W]; a stride of 2 halves H and W."""
        return relu(self.residual(features) + self.shortcut(features))
