"""Several networks whose embeddings are joined."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facenet_ext.models.network import NormalizedNetwork


class Committee(nn.Module):
    r"""Embed inputs with several networks, and join their embeddings.

    .. math:: f(x) = \frac{1}{\sqrt{k}} \left(f_1(x), \ldots, f_k(x)\right)

    The squared distance of two inputs is then the mean of the members' squared distances. Networks
    that start from different weights make different mistakes, so their mean makes fewer. Train each
    by its own loss: with one loss over the joined embedding they would learn as one network.

    Args:
        members: networks with the same input shape.

    Example:
        >>> from facenet_ext.models import SmallNet
        >>> members = [SmallNet(input_size=16, stages=(1, 1), embedding_dim=8) for _ in range(3)]
        >>> committee = Committee(members).eval()
        >>> embeddings = committee(torch.rand(2, 1, 16, 16))
        >>> embeddings.shape, [part.shape[1] for part in committee.parts(embeddings)]
        (torch.Size([2, 24]), [8, 8, 8])

    Source: Hansen, Salamon, *Neural network ensembles*, PAMI 1990.
    """

    def __init__(self, members: Sequence[NormalizedNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.input_shape = members[0].input_shape
        self.sizes = [member.embedding_dim for member in members]
        self.embedding_dim = sum(self.sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed a batch: [N, the sum of the members' D], rows of length 1."""
        embeddings = torch.cat([member(inputs) for member in self.members], 1)
        return embeddings / math.sqrt(len(self.members))

    def parts(self, embeddings: Tensor) -> list[Tensor]:
        """Split joined embeddings into each member's, rows of length 1."""
        scale = math.sqrt(len(self.members))
        return [part * scale for part in torch.split(embeddings, self.sizes, 1)]


def members_of(network: NormalizedNetwork | Committee) -> list[NormalizedNetwork]:
    """Return a committee's members, or a network alone."""
    return list(network.members) if isinstance(network, Committee) else [network]  # type: ignore[arg-type]
