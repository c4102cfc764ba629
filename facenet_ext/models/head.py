"""What follows a network: layers that are fitted to the training, not learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext.models.cohort import Cohort
from facenet_ext.models.fisher import FisherVectors
from facenet_ext.models.wccn import WCCN

_FISHER_WEIGHT = 2.0
"""How much longer Fisher vectors are than what a network returns, where they are joined."""


class Head(nn.Module):
    """Transform a network's embeddings, and join to them what no network has learned.

    Args:
        wccn: whitens what the network returns, or None.
        fisher: embeds the examples beside the network, or None.
        cohort: transforms what is joined, or None.
        dim: D, the length of the network's embeddings.

    Attributes:
        embedding_dim: D', the length of an embedding behind the head.

    Example:
        >>> from facenet_ext.models import FisherVectors
        >>> head = Head(None, FisherVectors((1, 48, 48), 4, components=2), None, 16)
        >>> head.embedding_dim
        20
    """

    def __init__(
        self, wccn: WCCN | None, fisher: FisherVectors | None, cohort: Cohort | None, dim: int
    ) -> None:
        super().__init__()
        self.wccn, self.fisher, self.cohort = wccn, fisher, cohort
        if fisher is not None:
            dim += fisher.embedding_dim
        self.embedding_dim = dim if cohort is None else cohort.embedding_dim

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(layer is not None for layer in (self.wccn, self.fisher, self.cohort))

    def forward(self, embeddings: Tensor, inputs: Tensor) -> Tensor:
        """Return [N, D'] of a network's embeddings, [N, D], and the inputs, [N, ...], it saw."""
        joined = self.joined(embeddings, inputs)
        return joined if self.cohort is None else self.cohort(joined)

    def joined(self, embeddings: Tensor, inputs: Tensor) -> Tensor:
        """Return what the cohort transforms: the network's embeddings and Fisher vectors."""
        if self.wccn is not None:
            embeddings = self.wccn(embeddings)
        if self.fisher is not None:
            described = _FISHER_WEIGHT * self.fisher(inputs)
            embeddings = normalize(torch.cat([embeddings, described], 1))
        return embeddings
