"""Tells embeddings apart by whom of a cohort they resemble, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext._precision import full_precision

_TEMPERATURE = 0.14
_WEIGHT = 2.0


class Cohort(nn.Module):
    r"""Join to each embedding whom of a cohort of people it resembles, and how clearly.

    .. math:: z = \frac{1}{\sqrt 3} \left(f, \sqrt{2 p}\right), \quad
        p = \mathrm{softmax}\left(\frac{f \cdot c_1}{\tau}, \ldots, \frac{f \cdot c_K}{\tau}\right)

    c are the mean embeddings of K people of the training, of length 1, and tau is 0.14. The squared
    distance becomes a third of the embeddings' own and 4/3 of the squared Hellinger distance of p.
    An image that is near to many people, as a blurred one is, is near to strangers by chance. There
    p is sharp, so it shares little of it with others; this takes back what it is too near. It does
    for a distance what the normalisation of scores by a cohort does for scores, and the result is
    an embedding as any other.

    Before :meth:`fit` the joined part is 0, and distances stay as they are.

    Args:
        dim: D, the length of an embedding.
        size: K, people of the cohort.

    Example:
        >>> cohort = Cohort(2, 3)
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> cohort.fit(rows, torch.tensor([0, 1, 2]))
        >>> cohort(rows).shape, torch.allclose(cohort(rows).norm(dim=1), torch.ones(3))
        (torch.Size([3, 5]), True)

    Source: this project. Normalising by a cohort is Auckenthaler, Carey, Lloyd-Thomas, *Score
    Normalization for Text-Independent Speaker Verification Systems*, Digital Signal Processing
    2000; that some points are near to all others is Radovanovic, Nanopoulos, Ivanovic, *Hubs in
    Space*, JMLR 2010.
    """

    people: Tensor
    weight: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.register_buffer("people", torch.zeros(size, dim))
        self.register_buffer("weight", torch.zeros(()))
        self.embedding_dim = dim + size

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return [N, D + K], rows of length 1, of [N, D] of length 1."""
        with full_precision(embeddings):
            shares = torch.softmax(embeddings @ self.people.T / _TEMPERATURE, 1)
            return normalize(torch.cat([embeddings, self.weight * shares.sqrt()], 1))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        """Take the first K people; if there are fewer, each several times.

        Args:
            embeddings: [M, D] floating point, rows of length 1, on any device.
            labels: [M] integers, whose each is. The first person is the one of the least label.
        """
        _, classes = torch.unique(labels.cpu(), return_inverse=True)
        people = int(classes.max()) + 1
        sums = torch.zeros(people, embeddings.shape[1]).index_add_(
            0, classes, embeddings.float().cpu()
        )
        self.people.copy_(normalize(sums[torch.arange(len(self.people)) % people]))
        self.weight.fill_(_WEIGHT**0.5)
