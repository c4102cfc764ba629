"""Networks for vectors of features, and for sequences of them, in place of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facenet_ext.models.network import EmbeddingNetwork
from facenet_ext.models.small import ResidualBlock


def mlp(
    input_shape: Sequence[int],
    embedding_dim: int = 128,
    *,
    width: int = 512,
    layers: int = 2,
    dropout: float = 0.2,
) -> EmbeddingNetwork:
    """Return a multi-layer perceptron over precomputed features of any shape.

    Batch normalisation standardises each feature over the training batches.

    Args:
        input_shape: shape of one input.
        embedding_dim: D, the length of an embedding.
        width: width of each hidden layer.
        layers: number of hidden layers.
        dropout: share of the last hidden layer that training drops.

    Returns:
        The network, with random weights.

    Example:
        >>> mlp([40], 16, width=64).eval()(torch.randn(5, 40)).shape
        torch.Size([5, 16])

    Source: this project.
    """
    inputs = int(torch.Size(input_shape).numel())
    features: list[nn.Module] = [nn.Flatten(), nn.BatchNorm1d(inputs, affine=False)]
    for _ in range(layers):
        features += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return EmbeddingNetwork(
        nn.Sequential(*features),
        inputs,
        embedding_dim,
        input_shape=tuple(input_shape),
        standardize=False,
        dropout=dropout,
        bias=False,
    )


def conv1d(
    input_shape: Sequence[int],
    embedding_dim: int = 128,
    *,
    width: int = 64,
    stages: Sequence[int] = (1, 1, 1),
    dropout: float = 0.2,
) -> EmbeddingNetwork:
    """Return a convolutional network over sequences, such as spectrograms: [channels, length].

    Convolutions of size 5, in stages that each halve the length and, after the first, double the
    width; then the mean and the standard deviation of each channel over the length. Sequences may
    be longer or shorter than in training.

    Args:
        input_shape: (channels, length), or (length,) of one channel.
        embedding_dim: D, the length of an embedding.
        width: channels of the first stage.
        stages: convolutions in each stage.
        dropout: share of the pooled features that training drops.

    Returns:
        The network, with random weights.

    Raises:
        ValueError: an input of more than two dimensions.

    Example:
        >>> network = conv1d([20, 50], 16, width=8).eval()
        >>> network(torch.randn(5, 20, 50)).shape, network(torch.randn(5, 20, 99)).shape
        (torch.Size([5, 16]), torch.Size([5, 16]))

    Source: this project; the pooling is Snyder et al., *X-vectors*, ICASSP 2018.
    """
    if not 1 <= len(input_shape) <= 2:
        raise ValueError(
            f"input_shape: expected (channels, length) or (length,), got {tuple(input_shape)}"
        )
    channels = input_shape[0] if len(input_shape) == 2 else 1
    features: list[nn.Module] = [] if len(input_shape) == 2 else [nn.Unflatten(1, (1, -1))]
    features.append(nn.BatchNorm1d(channels, affine=False))
    for stage, count in enumerate(stages):
        for position in range(count):
            outputs = width * 2**stage
            features += [
                nn.Conv1d(
                    channels, outputs, 5, stride=2 if position == 0 else 1, padding=2, bias=False
                ),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            ]
            channels = outputs
    features.append(StatisticsPool())
    return EmbeddingNetwork(
        nn.Sequential(*features),
        2 * channels,
        embedding_dim,
        input_shape=tuple(input_shape),
        standardize=False,
        dropout=dropout,
        bias=False,
    )


def conv2d(
    input_shape: Sequence[int],
    embedding_dim: int = 128,
    *,
    width: int = 16,
    stages: Sequence[int] = (1, 1, 1, 1),
    dropout: float = 0.2,
) -> EmbeddingNetwork:
    """Return a residual network over spectrograms as images: [bands, length].

    A convolution of size 5 and stride 2, then stages of residual blocks that, after the first, each
    halve the bands and the length and double the width; then the mean and the standard deviation of
    each channel of each band over the length. Spectrograms may be longer or shorter than in
    training.

    Args:
        input_shape: (bands, length).
        embedding_dim: D, the length of an embedding.
        width: channels of the first stage.
        stages: residual blocks in each stage.
        dropout: share of the pooled features that training drops.

    Returns:
        The network, with random weights.

    Raises:
        ValueError: an input that has not two dimensions.

    Example:
        >>> network = conv2d([20, 50], 16, width=4).eval()
        >>> network(torch.randn(5, 20, 50)).shape, network(torch.randn(5, 20, 99)).shape
        (torch.Size([5, 16]), torch.Size([5, 16]))

    Source: this project; residual networks with pooled statistics are those of Zeinali et al.,
    *BUT System Description to VoxCeleb Speaker Recognition Challenge 2019*.
    """
    if len(input_shape) != 2:
        raise ValueError(f"input_shape: expected (bands, length), got {tuple(input_shape)}")
    features: list[nn.Module] = [
        nn.BatchNorm1d(input_shape[0], affine=False),
        nn.Unflatten(1, (1, input_shape[0])),
        nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    bands, channels = (input_shape[0] + 1) // 2, width
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            features.append(ResidualBlock(channels, width * 2**stage, stride))
            bands, channels = (bands + stride - 1) // stride, width * 2**stage
    features += [nn.Flatten(1, 2), StatisticsPool()]
    return EmbeddingNetwork(
        nn.Sequential(*features),
        2 * channels * bands,
        embedding_dim,
        input_shape=tuple(input_shape),
        standardize=False,
        dropout=dropout,
        bias=False,
    )


class StatisticsPool(nn.Module):
    """The mean and the standard deviation of each channel over the length.

    Example:
        >>> StatisticsPool()(torch.tensor([[[1.0, 3.0]]])).round(decimals=3)
        tensor([[2., 1.]])

    Source: Snyder et al., *X-vectors: Robust DNN Embeddings for Speaker Recognition*, ICASSP 2018.
    """

    epsilon = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2 C] from [N, C, L]."""
        mean = x.mean(2)
        variance = (x - mean[:, :, None]).square().mean(2)
        return torch.cat([mean, (variance + self.epsilon).sqrt()], dim=1)
