"""Groups embeddings by identity, without a matrix of all distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from sklearn.metrics import normalized_mutual_info_score  # type: ignore[import-untyped]
from sklearn.metrics.cluster import (  # type: ignore[import-untyped]
    contingency_matrix,
    pair_confusion_matrix,
)
from torch import Tensor

from facenet_ext._agreement import check_same
from facenet_ext._ranks import Ranks
from facenet_ext.neighbours import nearest, within

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LINKAGES = ("average", "single")

_ROUNDING = 1e-12
"""Distances count as equal if their relative difference is at most this."""


class Clusters(NamedTuple):
    """Which rows belong together.

    Attributes:
        labels: [N] int64, the number of each row's cluster; the largest cluster is 0.
        sizes: [C] int64, rows of each, descending.
    """

    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]


class ClusterScores(NamedTuple):
    """How well clusters match the true identities; each score is in [0, 1], and 1 is best.

    Attributes:
        pair_precision: of pairs in one cluster, the share of one identity.
        pair_recall: of pairs of one identity, the share in one cluster.
        pair_f: their harmonic mean.
        bcubed_precision: the mean over rows of the share of their cluster that has their identity.
        bcubed_recall: the mean over rows of the share of their identity that is in their cluster.
        bcubed_f: their harmonic mean.
        nmi: normalised mutual information.
    """

    pair_precision: float
    pair_recall: float
    pair_f: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    nmi: float


def cluster(
    embeddings: NDArray[Any],
    threshold: float,
    linkage: str = "average",
    *,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
) -> Clusters:
    r"""Agglomerate rows until no two clusters are as close as a threshold.

    With average linkage the distance of two clusters is the mean over their pairs of rows,

    .. math:: d(A, B) = \frac{1}{|A| |B|} \sum_{a \in A, b \in B} \lVert x_a - x_b \rVert^2
        = \lVert \mu_A - \mu_B \rVert^2 + v_A + v_B

    with means :math:`\mu` and mean squared distances v from them. A cluster is therefore stored as
    its mean and a number. In each round :func:`facenet_ext.neighbours.nearest` finds the closest
    cluster of each cluster. All pairs that are each other's closest are merged at once. For this
    linkage the result is the same as that of one merge at a time. A cluster with no other within
    the threshold is finished. Copies of a row are one row that counts several times. Where
    distances are equal, as on a lattice, several results are right. Only the order of the rows
    decides which one is returned. With single linkage the clusters are the connected parts of the
    graph of :func:`facenet_ext.neighbours.within`.

    Args:
        embeddings: [N, D] floating point.
        threshold: squared Euclidean distance up to which clusters are merged.
        linkage: ``"average"`` or ``"single"``.
        progress: called with how many rows are done, and how many there are.
        group: the processes that divide the work; all of them call it, with the same arguments.
            None: this process alone.

    Returns:
        :class:`Clusters`.

    Raises:
        ValueError: another linkage, a negative threshold, or embeddings that are not a matrix of
            finite numbers.

    Example:
        >>> clusters = cluster(np.array([[0.0], [0.1], [1.0], [0.2]]), 0.05)
        >>> clusters.labels.tolist(), clusters.sizes.tolist()
        ([0, 0, 1, 0], [3, 1])

    Source: FaceNet (Schroff et al., CVPR 2015), section 5.7 (agglomerative clustering); Murtagh,
    *A survey of recent advances in hierarchical clustering algorithms*, 1983 (reciprocal
    neighbours).
    """
    ranks = Ranks.among(group)
    with ranks.together():
        if linkage not in LINKAGES:
            raise ValueError(f"linkage: expected one of {', '.join(LINKAGES)}, got {linkage!r}")
        if not threshold >= 0:
            raise ValueError(f"threshold: expected a number from 0, got {threshold!r}")
        embeddings = np.asarray(embeddings)  # accepts tensors and lists too
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings: expected a matrix [N, D], got shape {embeddings.shape}")
        wrong = np.flatnonzero(~np.isfinite(embeddings).all(1))
        if len(wrong):
            raise ValueError(f"embeddings: expected numbers, got NaN or infinity in row {wrong[0]}")
    rows, copies, place = _distinct(embeddings)
    check_same(ranks, embeddings=torch.from_numpy(rows), threshold=threshold, linkage=linkage)
    if linkage == "single":
        groups = _components(rows, threshold, progress, group)[place]
    else:
        groups = _average(rows, copies, threshold, progress, ranks)[place]
    names, sizes = np.unique(groups, return_counts=True)
    # Larger clusters come first, and of equally large ones that with the lowest row.
    first = np.full(len(names), len(groups))
    np.minimum.at(first, np.searchsorted(names, groups), np.arange(len(groups)))
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    labels = rank[np.searchsorted(names, groups)]
    return Clusters(labels.astype(np.int64), sizes[order].astype(np.int64))


def _distinct(
    embeddings: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows in order, how often each occurs, and each row's place in them."""
    rows = np.ascontiguousarray(embeddings) + 0  # -0.0 becomes 0.0
    if not rows.shape[1]:  # rows without columns are all equal
        rows = np.zeros((len(rows), 1), rows.dtype)
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, place, copies = np.unique(
        as_bytes, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[first[order]], copies[order], rank[place]


def _components(
    embeddings: NDArray[Any],
    threshold: float,
    progress: Callable[[int, int], None] | None,
    group: ProcessGroup | None,
) -> NDArray[np.int64]:
    pairs = within(torch.from_numpy(embeddings), threshold, progress=progress, group=group)
    edges = (pairs.first.numpy(), pairs.second.numpy())
    shape = (len(embeddings), len(embeddings))
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=shape)
    labels: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def _average(
    embeddings: NDArray[Any],
    copies: NDArray[np.int64],
    threshold: float,
    progress: Callable[[int, int], None] | None,
    ranks: Ranks,
) -> NDArray[np.int64]:
    """Return for each row one that stands for its cluster; ``copies`` is how often it occurs."""
    means = torch.from_numpy(np.array(embeddings, np.float64))
    total = len(means)
    spread = torch.zeros(total, dtype=torch.float64)  # v
    sizes = torch.from_numpy(copies).double()
    parent = torch.arange(total)
    active = torch.arange(total)
    while len(active) > 1:
        if progress is not None:
            progress(total - len(active), total)
        distances, other = _closest(means[active], spread[active], ranks)
        close = distances <= threshold * (1 + _ROUNDING)
        kept, merged = _pairs(means[active], spread[active], distances, other, close)
        into, gone = active[kept], active[merged]
        n, m = sizes[into], sizes[gone]
        share = m / (n + m)
        step = means[gone] - means[into]
        spread[into] += share * (spread[gone] - spread[into])
        spread[into] += share * (1 - share) * step.square().sum(1)
        means[into] += share[:, None] * step
        sizes[into] = n + m
        parent[gone] = into
        close[merged] = False
        # A cluster with no other one within the threshold is finished: merging others brings none
        # of them closer to it.
        active = active[close]
    if progress is not None:
        progress(total, total)
    labels: NDArray[np.int64] = _roots(parent).numpy()
    return labels


def _closest(means: Tensor, spread: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Return each cluster's distance to the closest other one, and which that is.

    One more coordinate, 0 for the query and sqrt(v) for the candidate, makes the search add the
    candidate's v to the squared distance. Each rank searches for a share of the clusters.
    """
    candidates = torch.cat([means, spread.sqrt()[:, None]], 1).float()
    queries = torch.cat([means, torch.zeros_like(spread)[:, None]], 1).float()
    share = math.ceil(len(means) / ranks.size)
    own = queries[ranks.rank * share :][:share]
    closest = torch.zeros(share, 2, dtype=torch.int64)
    closest[: len(own)] = nearest(own, 2, ref_emb=candidates).indices
    two_closest = ranks.all_gather(closest.to(ranks.device)).flatten(0, 1)[: len(means)].cpu()
    itself = two_closest[:, 0] == torch.arange(len(means))
    other = torch.where(itself, two_closest[:, 1], two_closest[:, 0])
    return _distances(means, spread, torch.arange(len(means)), other), other


def _distances(means: Tensor, spread: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (means[first] - means[second]).square().sum(1) + spread[first] + spread[second]


def _pairs(
    means: Tensor, spread: Tensor, distances: Tensor, other: Tensor, close: Tensor
) -> tuple[Tensor, Tensor]:
    """Return pairs of clusters to merge, the lower one first; no cluster is in two pairs.

    A pair is merged if neither of its clusters has a closer one. Of equally close clusters the
    search names only the first. If only mutual closest pairs were merged, then on a lattice nearly
    all clusters would wait for the one before them. Two rules avoid this. It is enough that the
    distance of the pair is the smallest of both clusters. And two clusters with the same closest
    cluster, equally close, are tried as a pair too: this pairs points that are all equally far
    apart two by two.
    """
    most = distances * (1 + _ROUNDING)
    first = (close & (distances <= most[other])).nonzero().flatten()
    waiting = close.nonzero().flatten()
    waiting = waiting[other[waiting].argsort(stable=True)]
    a, b = waiting[:-1], waiting[1:]
    tied = (other[a] == other[b]) & (distances[a] <= most[b]) & (distances[b] <= most[a])
    a, b = a[tied], b[tied]
    tied = _distances(means, spread, a, b) <= torch.minimum(most[a], most[b])
    ripe = torch.cat([torch.stack([first, other[first]]), torch.stack([a[tied], b[tied]])], 1)
    free = [True] * len(other)
    chosen = []
    for one, another in ripe.T.tolist():
        if free[one] and free[another]:
            free[one] = free[another] = False
            chosen.append((min(one, another), max(one, another)))
    kept, merged = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2).T
    return kept, merged


def _roots(parent: Tensor) -> Tensor:
    while True:
        above = parent[parent]
        if torch.equal(above, parent):
            return parent
        parent = above


def score_clusters(labels: Sequence[Any], identities: Sequence[Any]) -> ClusterScores:
    r"""Compare clusters with true identities.

    .. math:: F = \frac{2 P R}{P + R}, \quad
        P_{B^3} = \frac{1}{N} \sum_i \frac{|C_i \cap I_i|}{|C_i|}, \quad
        R_{B^3} = \frac{1}{N} \sum_i \frac{|C_i \cap I_i|}{|I_i|}

    Args:
        labels: N clusters, of any type.
        identities: N true identities, of any type.

    Returns:
        :class:`ClusterScores`. Pair precision is 1 where no cluster has two rows, as nothing is
        wrong; pair recall is 1 where no identity has two rows, as nothing is missing.

    Example:
        >>> scores = score_clusters([0, 0, 0, 1], ["a", "a", "b", "b"])
        >>> round(scores.pair_precision, 3), scores.pair_recall, round(scores.bcubed_f, 3)
        (0.333, 0.5, 0.706)

    Source: Bagga, Baldwin, *Entity-based cross-document coreferencing using the vector space
    model*, ACL 1998 (BCubed); Manning, Raghavan, Schuetze, *Introduction to Information
    Retrieval*, 2008, section 16.3.
    """
    table = contingency_matrix(identities, labels, sparse=True).tocoo()
    shared = table.data.astype(np.float64)
    of_identity = np.bincount(table.row, shared).astype(np.float64)
    of_cluster = np.bincount(table.col, shared).astype(np.float64)
    rows = shared.sum()
    (_, wrong), (missing, together) = pair_confusion_matrix(identities, labels).tolist()
    pair_precision = together / (together + wrong) if together + wrong else 1.0
    pair_recall = together / (together + missing) if together + missing else 1.0
    precision = float((shared**2 / of_cluster[table.col]).sum() / rows)
    recall = float((shared**2 / of_identity[table.row]).sum() / rows)
    return ClusterScores(
        pair_precision,
        pair_recall,
        _harmonic_mean(pair_precision, pair_recall),
        precision,
        recall,
        _harmonic_mean(precision, recall),
        float(normalized_mutual_info_score(identities, labels)),
    )


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
