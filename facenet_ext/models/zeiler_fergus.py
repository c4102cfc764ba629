"""NN1: Zeiler and Fergus's network with 1x1 convolutions between the larger ones."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from facenet_ext.models.layers import Maxout, MaxPool, conv, norm, positions_after
from facenet_ext.models.network import EmbeddingNetwork, initialize

_FC = 32 * 128


def nn1(
    embedding_dim: int = 128,
    *,
    in_channels: int = 3,
    input_size: tuple[int, int] = (220, 220),
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> EmbeddingNetwork:
    """Return NN1: 140 million parameters and 1.6 billion multiply-adds at 220x220.

    Args:
        embedding_dim: D, the length of an embedding.
        in_channels: 1 for grey images, 3 for colour.
        input_size: height and width of the images, pixels; fc1 depends on it.
        batch_norm: use batch normalisation, which trains far more easily, in place of the paper's
            response normalisation.
        dropout: share of the last features that training drops; the paper names none.

    Returns:
        The network, with random weights.

    Example:
        >>> network = nn1(in_channels=1, input_size=(32, 32))
        >>> sum(p.numel() for p in network.features.conv1.parameters())
        3200

    Source: FaceNet (Schroff et al., CVPR 2015), table 1.
    """

    def convolve(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
        return conv(inputs, outputs, size, stride, batch_norm=batch_norm)

    features = OrderedDict[str, nn.Module](
        conv1=convolve(in_channels, 64, 7, 2),
        pool1=MaxPool(),
        rnorm1=norm(batch_norm),
        conv2a=convolve(64, 64, 1),
        conv2=convolve(64, 192, 3),
        rnorm2=norm(batch_norm),
        pool2=MaxPool(),
        conv3a=convolve(192, 192, 1),
        conv3=convolve(192, 384, 3),
        pool3=MaxPool(),
        conv4a=convolve(384, 384, 1),
        conv4=convolve(384, 256, 3),
        conv5a=convolve(256, 256, 1),
        conv5=convolve(256, 256, 3),
        conv6a=convolve(256, 256, 1),
        conv6=convolve(256, 256, 3),
        pool4=MaxPool(),
        flatten=nn.Flatten(),
        fc1=Maxout(256 * positions_after(5, input_size), _FC),
        fc2=Maxout(_FC, _FC),
    )
    return initialize(
        EmbeddingNetwork(
            nn.Sequential(features),
            _FC,
            embedding_dim,
            input_shape=(in_channels, *input_size),
            dropout=dropout,
        )
    )
