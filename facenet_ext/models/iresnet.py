"""IResNet, the residual network of ArcFace's code: deep, for faces of 112x112 and a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from facenet_ext._precision import full_precision
from facenet_ext.models.layers import positions_after
from facenet_ext.models.network import NormalizedNetwork, at_least_float32

if TYPE_CHECKING:
    from typing_extensions import Unpack


class IResNet(NormalizedNetwork):
    """Embed faces with four stages of residual blocks that each halve the resolution.

    The image keeps its resolution up to the first stage. A block normalises before its first
    convolution and after its last one, and nothing is rectified between blocks. One linear layer
    over all positions and batch normalisation of each number end the network, in float32. The
    names of all weights are those of ArcFace's code.

    Args:
        blocks: residual blocks in each stage.
        embedding_dim: D, the length of an embedding.
        in_channels: 1 for grey images, 3 for colour.
        input_size: height and width of the images, pixels; the linear layer depends on it.
        dropout: share of the last feature map that training drops, in [0, 1).

    Example:
        >>> network = IResNet((1, 1, 1, 1), 16, input_size=(32, 32)).eval()
        >>> network(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 16])

    Source: Deng et al., *ArcFace*, CVPR 2019, and Duta et al., *Improved Residual Networks*, ICPR
    2020; the layers are those of https://github.com/deepinsight/insightface (arcface_torch).
    """

    head = ("fc", "features")
    body = "bn2"

    def __init__(
        self,
        blocks: Sequence[int],
        embedding_dim: int = 512,
        *,
        in_channels: int = 3,
        input_size: tuple[int, int] = (112, 112),
        dropout: float = 0.0,
    ) -> None:
        super().__init__((in_channels, *input_size), embedding_dim)
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self._stages = [f"layer{stage}" for stage in range(1, len(blocks) + 1)]
        channels = 64
        for stage, (name, count) in enumerate(zip(self._stages, blocks, strict=True)):
            first = _Block(channels, 64 * 2**stage, 2)
            channels = 64 * 2**stage
            rest = [_Block(channels, channels, 1) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(first, *rest))
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        positions = positions_after(len(blocks), input_size)
        self.fc = nn.Linear(channels * positions, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def raw_embeddings(self, inputs: Tensor) -> Tensor:
        """Return [N, embedding_dim] float32 of [N, *input_shape]."""
        x = self.prelu(self.bn1(self.conv1(inputs)))
        for stage in self._stages:
            x = self.get_submodule(stage)(x)
        x = self.dropout(self.bn2(x).flatten(1))
        with full_precision(x):
            embeddings: Tensor = self.features(self.fc(at_least_float32(x)))
        return embeddings


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the second one has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        shortcut: Tensor = self.downsample(x)
        residual = self.bn3(self.conv2(residual))
        return residual + shortcut


class IResNetOptions(TypedDict, total=False):
    """What each network takes beside its size: see :class:`IResNet`."""

    in_channels: int
    input_size: tuple[int, int]
    dropout: float


def iresnet18(embedding_dim: int = 512, **options: Unpack[IResNetOptions]) -> IResNet:
    """Return IResNet-18: 24.0 million parameters and 2.6 billion multiply-adds at 112x112.

    Args:
        embedding_dim: D, the length of an embedding.
        options: ``in_channels``, ``input_size`` and ``dropout`` of :class:`IResNet`.

    Returns:
        The network, with random weights.

    Example:
        >>> sum(p.numel() for p in iresnet18().parameters())
        24025600

    Source: see :class:`IResNet`.
    """
    return IResNet((2, 2, 2, 2), embedding_dim, **options)


def iresnet50(embedding_dim: int = 512, **options: Unpack[IResNetOptions]) -> IResNet:
    """Return IResNet-50: 43.6 million parameters and 6.3 billion multiply-adds at 112x112.

    Args:
        embedding_dim: D, the length of an embedding.
        options: ``in_channels``, ``input_size`` and ``dropout`` of :class:`IResNet`.

    Returns:
        The network, with random weights.

    Source: see :class:`IResNet`.
    """
    return IResNet((3, 4, 14, 3), embedding_dim, **options)


def iresnet100(embedding_dim: int = 512, **options: Unpack[IResNetOptions]) -> IResNet:
    """Return IResNet-100: 65.2 million parameters and 12.1 billion multiply-adds at 112x112.

    Args:
        embedding_dim: D, the length of an embedding.
        options: ``in_channels``, ``input_size`` and ``dropout`` of :class:`IResNet`.

    Returns:
        The network, with random weights.

    Source: see :class:`IResNet`.
    """
    return IResNet((3, 13, 30, 3), embedding_dim, **options)
