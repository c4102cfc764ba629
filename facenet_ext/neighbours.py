"""The closest rows of a gallery, and all pairs within a radius, without an N x N matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext import ops
from facenet_ext._agreement import check_same
from facenet_ext._claims import claiming, gather_pieces, rows_of_block
from facenet_ext._cut_gallery import nearest_in_cut_gallery
from facenet_ext._ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Neighbours", "PairsWithin", "nearest", "within"]

Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and how many there are."""

_MOST = 1024
"""Most neighbours that can be asked for."""

_BLOCK = 16_384
"""Rows on each side in one call of the operator. A call takes a fraction of a second on two cores;
progress is reported, and Ctrl-C is served, between calls."""


class Neighbours(NamedTuple):
    """The closest candidates of each row, the closest first.

    Attributes:
        distances: ``[M, k]`` float32, or float64 for float64, ascending.
        indices: ``[M, k]`` int64, rows of the candidates.
    """

    distances: Tensor
    indices: Tensor


class PairsWithin(NamedTuple):
    """Pairs of rows that are close, in lexicographic order.

    Attributes:
        first: ``[P]`` int64, rows of the embeddings.
        second: ``[P]`` int64, rows of the candidates.
        distances: ``[P]`` float32, or float64 for float64.
    """

    first: Tensor
    second: Tensor
    distances: Tensor


def nearest(
    embeddings: Tensor,
    k: int = 1,
    *,
    ref_emb: Tensor | None = None,
    distance: str = "sqeuclidean",
    group: ProcessGroup | None = None,
) -> Neighbours:
    r"""Find the k closest rows of a gallery for each row.

    .. math:: i_1(a), \ldots, i_k(a) = \text{the first } k \text{ of all } i
        \text{ in ascending order of } (d(a, i),\ i)

    Of equally close rows the first ones are taken, with any number of threads.

    Args:
        embeddings: ``[M, D]``, float32, float64, float16 or bfloat16.
        k: neighbours of each row, 1 to 1024.
        ref_emb: ``[N, D]``, the gallery. If None, the rows themselves; a row is not its own
            neighbour.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"`` (1 - cos).
        group: the processes over which the gallery is cut; all of them call it. Each gives probes
            of its own and its rows of the gallery, any number of both. The gallery is these rows in
            the order of the ranks, ``indices`` are places in it, and the result is that of one
            process. None: this process alone.

    Returns:
        The :class:`Neighbours`; they carry no gradient.

    Raises:
        ValueError: ``k`` is out of range or above the number of candidates; shapes that do not
            fit; a distance is NaN.
        TypeError: the embeddings are not floating point.

    Example:
        >>> gallery = torch.tensor([[0.0], [1.0], [5.0]])
        >>> neighbours = nearest(torch.tensor([[4.0], [0.4]]), 2, ref_emb=gallery)
        >>> neighbours.indices.tolist(), neighbours.distances[0].tolist()
        ([[2, 1], [0, 1]], [1.0, 9.0])

    Source: FaceNet (Schroff et al., CVPR 2015), section 1: recognition is a k-NN classification.
    """
    ranks = Ranks.among(group)
    with ranks.together():
        embeddings, ref_emb = _checked(embeddings, ref_emb, distance)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST:
            raise ValueError(f"k: expected 1 to {_MOST}, got {k!r}")
    if ranks.size > 1:
        return Neighbours(*nearest_in_cut_gallery(ranks, embeddings, k, ref_emb, distance))
    candidates = embeddings.shape[0] - 1 if ref_emb is None else ref_emb.shape[0]
    if k > candidates and embeddings.shape[0]:
        raise ValueError(f"k: expected at most the {max(candidates, 0)} candidates, got {k}")
    distances, indices = ops.nearest(embeddings, ref_emb, k, distance)
    if bool((indices[:, -1:] < 0).any()):
        row = int((indices[:, -1] < 0).nonzero()[0])
        raise ValueError(
            f"embeddings, ref_emb: expected numbers, got NaN among the distances of row {row}"
        )
    return Neighbours(distances, indices)


def within(
    embeddings: Tensor,
    radius: float,
    *,
    ref_emb: Tensor | None = None,
    distance: str = "sqeuclidean",
    progress: Progress | None = None,
    group: ProcessGroup | None = None,
) -> PairsWithin:
    r"""Find all pairs of rows that are at most a radius apart.

    .. math:: \{ (i, j) : d(i, j) \le r \}

    Only the result takes memory. Its pairs are the graph over which faces are clustered.

    Args:
        embeddings: ``[M, D]``, float32, float64, float16 or bfloat16.
        radius: r, in the unit of the distance; rounded to the distances' type.
        ref_emb: ``[N, D]``: pairs of a row of ``embeddings`` with one of these. If None, each pair
            of two rows of ``embeddings`` once, the lower row first.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"`` (1 - cos).
        progress: called with how many pairs are done, and how many there are.
        group: the processes that divide the pairs; all of them call it, with the same rows.
            None: this process alone.

    Returns:
        The :class:`PairsWithin`; they carry no gradient.

    Raises:
        ValueError: a radius that is not a number from 0, shapes that do not fit.
        TypeError: the embeddings are not floating point.

    Example:
        >>> pairs = within(torch.tensor([[0.0], [1.0], [5.0]]), 1.0)
        >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distances.tolist()
        ([0], [1], [1.0])

    Source: this project; the radius graph of FaceNet's clustering, section 5.7.
    """
    ranks = Ranks.among(group)
    with ranks.together():
        embeddings, ref_emb = _checked(embeddings, ref_emb, distance)
        if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not radius >= 0:
            raise ValueError(f"radius: expected a number from 0, got {radius!r}")
    columns = embeddings if ref_emb is None else ref_emb
    rows, n = embeddings.shape[0], columns.shape[0]
    total = rows * (rows - 1) // 2 if ref_emb is None else rows * n
    check_same(ranks, embeddings=embeddings, ref_emb=ref_emb, radius=radius, distance=distance)
    size = rows_of_block(ranks, max(rows, n), _BLOCK)
    starts = (
        (i, j)
        for i in range(0, rows, size)
        for j in range(0 if ref_emb is not None else i, n, size)
    )
    capacity, parts = _BLOCK, {}
    with claiming(ranks) as claims:
        for number, (i, j) in claims.of(starts):
            a, b = embeddings[i : i + size], columns[j : j + size]
            itself = ref_emb is None and i == j
            others = None if itself else b
            pairs, distances, total_close = ops.pairs_within(
                a, others, float(radius), distance, capacity
            )
            count = int(total_close)
            if count > capacity:  # again, with room for all: later blocks will need about as much
                capacity = count
                pairs, distances, _ = ops.pairs_within(a, others, float(radius), distance, capacity)
            parts[number] = pairs[:count, 0] + i, pairs[:count, 1] + j, distances[:count].clone()
            done = claims.finish(len(a) * (len(a) - 1) // 2 if itself else len(a) * len(b))
            if progress is not None:
                progress(done, total)
    nothing = torch.empty(0, dtype=torch.int64, device=embeddings.device)
    dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    first, second, distances = gather_pieces(ranks, parts, (nothing, nothing, nothing.to(dtype)))
    order = torch.argsort(first * max(n, 1) + second)
    return PairsWithin(first[order], second[order], distances[order])


def _checked(
    embeddings: Tensor, ref_emb: Tensor | None, distance: str
) -> tuple[Tensor, Tensor | None]:
    """Check what both functions take, and return the rows in one dtype."""
    check.check_embeddings("embeddings", embeddings)
    check.check_values("embeddings", embeddings)
    check.check_choice("distance", distance, check.DISTANCES)
    if ref_emb is None:
        return embeddings, None
    return check.check_pair("embeddings", embeddings, "ref_emb", ref_emb)
