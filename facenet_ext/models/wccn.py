"""Makes the embeddings of one person scatter alike in all directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext._precision import full_precision

_SHRINKAGE = 0.1
"""How much of the mean variance is added to the covariance, so that few people suffice."""


class WCCN(nn.Module):
    r"""Whiten embeddings by the covariance within classes.

    .. math:: z = \frac{W (f - m)}{\lVert W (f - m) \rVert_2}, \quad
        W = (C + \lambda \bar c I)^{-1/2}, \quad
        C = \frac{1}{M} \sum_i \frac{n_i}{n_i - 1} (f_i - \mu_i)(f_i - \mu_i)^T

    m is the mean of the embeddings, n_i how many there are of the class of i, and mu_i their mean;
    c is the mean of C's diagonal, and lambda 0.1. Classes of one are left out of C. Directions in
    which images of one person differ count less then. A :class:`.Committee` whose members learned
    apart needs it most: what they are wrong about together is in the covariance between them, and
    no member's loss has seen it.

    Before :meth:`fit`, embeddings of length 1 stay as they are.

    Args:
        dim: D, the length of an embedding.

    Example:
        >>> rows = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-3.0, 2.0], [-3.0, -2.0]])
        >>> wccn = WCCN(2)
        >>> wccn.fit(rows, torch.tensor([0, 0, 1, 1]))
        >>> wccn(rows)[:2].round(decimals=2)
        tensor([[ 1.0000,  0.0700],
                [ 1.0000, -0.0700]])

    Source: Hatch, Kajarekar, Stolcke, *Within-Class Covariance Normalization for SVM-based Speaker
    Recognition*, Interspeech 2006.
    """

    mean: Tensor
    transform: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("transform", torch.eye(dim))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return [N, D], rows of length 1, of [N, D]."""
        with full_precision(embeddings):
            return normalize((embeddings - self.mean) @ self.transform)

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> None:
        """Measure m and W; without embeddings of one class that differ they stay as they are.

        Args:
            embeddings: [M, D] floating point, on any device.
            labels: [M] integers, their classes.
        """
        _, classes, counts = torch.unique(labels.cpu(), return_inverse=True, return_counts=True)
        several = counts[classes] > 1
        if not several.any():
            return
        mean = embeddings.cpu().double().mean(0)
        rows, classes = embeddings.cpu()[several].double(), classes[several]
        sums = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, classes, rows)
        n = counts[classes, None]
        residuals = (rows - sums[classes] / n) * (n / (n - 1)).sqrt()
        covariance = residuals.T @ residuals / len(residuals)
        variance = covariance.diagonal().mean()
        if variance == 0:
            return
        values, vectors = torch.linalg.eigh(covariance)
        # Relative to the mean variance, W is near I where there is little to whiten.
        scales = (values / variance).clamp_min(0).add(_SHRINKAGE).rsqrt()
        self.mean.copy_(mean)
        self.transform.copy_((vectors * scales) @ vectors.T)
