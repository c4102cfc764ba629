"""Distances of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def pairwise_squared_distance(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the squared Euclidean distance of every row of ``x`` to every row of ``y``.

    ``d[i, j] = sum_k (x[i, k] - y[j, k])**2``, by direct differences: equal rows are at exactly 0.

    Args:
        x: [M, D].
        y: [N, D]; ``x`` itself when None.

    Returns:
        [M, N], float64, differentiable.

    Raises:
        RuntimeError: ``x`` and ``y`` have different numbers of columns.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> pairwise_squared_distance(x).tolist()
        [[0.0, 25.0], [25.0, 0.0]]

    The distance of FaceNet (CVPR 2015), section 3.
    """
    return pairwise_distance(x, y, distance="sqeuclidean")


def pairwise_distance(x: Tensor, y: Tensor | None = None, distance: str = "sqeuclidean") -> Tensor:
    """Return the distance of every row of ``x`` to every row of ``y``.

    By ``distance``, ``d[i, j]`` is

    - ``"sqeuclidean"``: ``|x_i - y_j|**2``,
    - ``"euclidean"``: ``|x_i - y_j|``, with gradient 0 where it is 0,
    - ``"cosine"``: ``1 - cos(x_i, y_j)``; 1, with gradient 0, to and from a zero vector (to another
      zero vector as well).

    Args:
        x: [M, D].
        y: [N, D]; ``x`` itself when None.
        distance: one of the three above.

    Returns:
        [M, N], float64, differentiable.

    Raises:
        RuntimeError: ``x`` and ``y`` have different numbers of columns.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-3.0, -4.0]])
        >>> pairwise_distance(x, distance="euclidean").tolist()
        [[0.0, 5.0, 5.0], [5.0, 0.0, 10.0], [5.0, 10.0, 0.0]]
        >>> pairwise_distance(x, distance="cosine")[:2].tolist()
        [[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]]

    The squared distance is that of FaceNet (CVPR 2015), section 3; the others are common variants.
    """
    x = x.double()
    y = x if y is None else y.double()
    rows = [distance_between(row, y, distance) for row in x]
    # Without rows there is nothing to stack; the product keeps the result attached to its inputs.
    return torch.stack(rows) if rows else x @ y.T


def distance_between(x: Tensor, y: Tensor, distance: str) -> Tensor:
    """Distance along the last dimension of two float64 tensors that broadcast: [..., D] → [...]."""
    if distance == "cosine":
        # 1 - cos(x, y) = |x/|x| - y/|y||² / 2, which is exactly 0 for equal rows.
        x, x_is_zero = _unit_rows(x)
        y, y_is_zero = _unit_rows(y)
        half = 0.5 * (x - y).square().sum(-1)
        return torch.where(x_is_zero | y_is_zero, torch.ones_like(half), half)
    squared = (x - y).square().sum(-1)
    return _sqrt(squared) if distance == "euclidean" else squared


def _sqrt(squared: Tensor) -> Tensor:
    """Square root with gradient 0 at 0; NaN stays NaN."""
    at_zero = squared == 0
    return torch.where(at_zero, 0.0, torch.where(at_zero, 1.0, squared).sqrt())


def _unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows divided by their norm, and which rows are zero (those stay zero)."""
    norm = _sqrt(x.square().sum(-1))
    is_zero = norm == 0
    return x / torch.where(is_zero, 1.0, norm).unsqueeze(-1), is_zero
