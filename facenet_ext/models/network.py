"""What all networks share: standardised inputs, and embeddings on the unit sphere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.hooks import RemovableHandle


class NormalizedNetwork(nn.Module):
    r"""Standardise inputs, embed them, and bring the embeddings to length 1.

    .. math:: f(x) = \frac{g(\hat x)}{\lVert g(\hat x) \rVert_2}, \quad
        \hat x = \frac{x - \mathrm{mean}(x)}{\mathrm{std}(x) + 0.03}

    Each image is standardised by itself, so exposure and contrast do not matter. A subclass says
    what g is, in ``raw_embeddings``.

    Args:
        input_shape: shape of one input; (channels, height, width) for an image.
        embedding_dim: D, the length of an embedding.
        standardize: standardise each input as above; False where inputs are not images.

    Attributes:
        head: the names of the last layer with weights, and of what follows it.
        body: the name of the module that returns the features that the head gets.

    Source: FaceNet (Schroff et al., CVPR 2015), section 3: the embedding lives on the unit sphere.
    """

    head: Sequence[str] = ()
    body = "features"

    def __init__(
        self, input_shape: tuple[int, ...], embedding_dim: int, *, standardize: bool = True
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.embedding_dim = embedding_dim
        self.standardize = standardize

    def raw_embeddings(self, inputs: Tensor) -> Tensor:
        """Return [N, embedding_dim], of any length, of standardised [N, *input_shape]."""
        raise NotImplementedError

    def on_features(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        """Call a function with the features, [N, ...], that each forward feeds to the head."""
        body = self.get_submodule(self.body)
        return body.register_forward_hook(lambda _module, _inputs, output: keep(output))

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Return the network's parts and their names, in order."""
        return list(self.named_children())

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed a batch.

        Args:
            inputs: ``[N, *input_shape]`` floating point; images in any linear unit.

        Returns:
            ``[N, embedding_dim]`` float32 (float64 for float64), rows of length 1.
        """
        if self.standardize:
            mean = inputs.mean((1, 2, 3), keepdim=True)
            std = inputs.std((1, 2, 3), keepdim=True)
            inputs = (inputs - mean) / (std + 0.03)
        # Mixed precision ends here: half precision blurs distances near zero.
        return normalize(at_least_float32(self.raw_embeddings(inputs)))


class EmbeddingNetwork(NormalizedNetwork):
    r"""Embed inputs: features, then one linear layer, then the unit sphere.

    See :class:`NormalizedNetwork` for the formula; g is the features and the linear layer.

    Args:
        features: maps ``[N, *input_shape]`` to ``[N, ...]``.
        width: numbers that ``features`` returns for each input.
        embedding_dim: D, the length of an embedding.
        input_shape: shape of one input; (channels, height, width) for an image.
        standardize: standardise each input; False where inputs are not images.
        dropout: share of the features that training drops, in [0, 1).
        bias: give the last layer a bias.

    Example:
        >>> network = EmbeddingNetwork(nn.Flatten(), 4, 2, input_shape=(1, 2, 2), bias=False)
        >>> images = torch.tensor([[[[0.0, 1.0], [0.5, 0.0]]]])
        >>> torch.allclose(network(images), network(images / 2 + 0.1), atol=0.1)
        True

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.
    """

    head = ("dropout", "embedding")

    def __init__(
        self,
        features: nn.Module,
        width: int,
        embedding_dim: int,
        *,
        input_shape: tuple[int, ...],
        standardize: bool = True,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(input_shape, embedding_dim, standardize=standardize)
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(width, embedding_dim, bias=bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def raw_embeddings(self, inputs: Tensor) -> Tensor:
        """Return [N, embedding_dim] of [N, *input_shape]."""
        # The last feature map is flattened channel by channel, whatever the memory format.
        embeddings: Tensor = self.embedding(self.dropout(self.features(inputs).flatten(1)))
        return embeddings

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Return the children of ``features``, and the last layer."""
        return [*self.features.named_children(), ("embedding", self.embedding)]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back into the mode that it was in."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def at_least_float32(x: Tensor) -> Tensor:
    """Return float32 of lower precision; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def initialize(network: EmbeddingNetwork) -> EmbeddingNetwork:
    r"""Draw the weights of convolutions and linear layers anew, as for GoogLeNet.

    .. math:: w \sim U\left(-\sqrt{3 / n},\ \sqrt{3 / n}\right)

    where n is the number of inputs of one output. Biases become 0. In ReLU networks of this depth
    without normalisation layers, this keeps the scale of the activations similar up to the
    embedding.

    Args:
        network: changed in place, and returned.

    Source: Glorot, Bengio, *Understanding the difficulty of training deep feedforward neural
    networks*, AISTATS 2010, in the form that GoogLeNet was published with (Caffe's "xavier").
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = math.sqrt(3 / module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
