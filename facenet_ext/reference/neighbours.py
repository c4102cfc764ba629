"""The closest rows, and pairs within a radius."""

from __future__ import annotations

import torch
from torch import Tensor

from facenet_ext.reference.distances import pairwise_distance


def nearest(
    embeddings: Tensor,
    k: int = 1,
    ref_emb: Tensor | None = None,
    distance: str = "sqeuclidean",
) -> tuple[Tensor, Tensor]:
    """Return the k closest rows of a gallery for each row; of equally close ones the first.

    Args:
        embeddings: [M, D].
        k: at most the number of candidates.
        ref_emb: the gallery, [N, D]; when None the rows themselves, and a row is not its own
            neighbour.
        distance: as of :func:`pairwise_distance`.

    Returns:
        Distances [M, k], float64, ascending, and rows of the candidates [M, k], int64.

    Example:
        >>> distances, rows = nearest(torch.tensor([[0.0], [1.0], [3.0]]), 2)
        >>> rows.tolist(), distances.tolist()
        ([[1, 2], [0, 2], [1, 0]], [[1.0, 9.0], [1.0, 4.0], [4.0, 9.0]])

    FaceNet (CVPR 2015), section 1: recognition is a k-NN classification.
    """
    d = pairwise_distance(embeddings.detach(), ref_emb, distance)
    order = d.sort(dim=1, stable=True).indices
    if ref_emb is None:
        rows = torch.arange(len(d), device=d.device)
        others = order != rows[:, None]
        order = order[others].reshape(len(d), max(len(d) - 1, 0))
    rows = order[:, :k]
    return d.gather(1, rows), rows


def within(
    embeddings: Tensor,
    radius: float,
    ref_emb: Tensor | None = None,
    distance: str = "sqeuclidean",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all pairs of rows that are at most a radius apart.

    Args:
        embeddings: [M, D].
        radius: in the unit of the distance.
        ref_emb: candidates, [N, D]: each pair is a row of ``embeddings`` and one of these. When
            None, each pair of rows of ``embeddings`` once, the lower row first.
        distance: as of :func:`pairwise_distance`.

    Returns:
        Rows of the embeddings [P], rows of the candidates [P], both int64, in lexicographic order,
        and distances [P], float64.

    Example:
        >>> within(torch.tensor([[0.0], [1.0], [3.0]]), 4.0)
        (tensor([0, 1]), tensor([1, 2]), tensor([1., 4.], dtype=torch.float64))

    The radius graph of FaceNet's clustering (CVPR 2015), section 5.7.
    """
    d = pairwise_distance(embeddings.detach(), ref_emb, distance)
    close = d <= radius
    first, second = (close.triu(1) if ref_emb is None else close).nonzero(as_tuple=True)
    return first, second, d[first, second]
