"""Finds images that are probably under the wrong name, or under two names.

The hardest triplets of a large set are mostly mistakes in it (FaceNet, section 3.2: "mislabelled
and poorly imaged faces would dominate the hard positives and negatives").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from facenet_ext._defaults import MINING_CHUNK
from facenet_ext.functional import pairwise_squared_distance
from facenet_ext.mining.search import check_embeddings

__all__ = ["Suspect", "find_duplicates", "find_mislabelled"]

_ANCHORS = 512
_DIMENSIONS = 8  # duplicates are looked for in a projection of so many dimensions
_NEIGHBOURS = 9  # so many neighbours of a row are compared with it there, itself among them


class Suspect(NamedTuple):
    """A row that is probably under the wrong label.

    Attributes:
        row: its number.
        score: how suspicious it is, from 0 to 1.
        positive: the closest row of its own label.
        d_positive: its squared distance.
        other: the closest row of another label.
        d_other: its squared distance.
    """

    row: int
    score: float
    positive: int
    d_positive: float
    other: int
    d_other: float


def find_mislabelled(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    count: int = 50,
    *,
    sample: int = 4096,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Suspect]:
    r"""Find the rows whose positives are farther away than almost every negative.

    .. math:: s(a) = \operatorname{median}_{p \in P(a)} \frac{|\{n \in S : d(a, n) < d(a, p)\}|}
        {|\{n \in S : y_n \ne y_a\}|}

    with S a sample of all rows. The score is near 0 for a row whose label is right, and about a
    half for one whose label says nothing. As it is a median over the rows of a label, one wrong row
    among many does not make the others suspicious. If a label has two rows, both get the same
    score.

    Args:
        embeddings: ``[N, D]`` float32, float64 or float16.
        labels: ``[N]`` integers.
        count: how many to return at most.
        sample: rows of S.
        seed: chooses S.
        progress: called with the rows that are done and with how many there are.

    Returns:
        The most suspicious rows that have a positive, by descending score.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> rows = np.array([[0.0], [0.1], [9.0], [9.1], [9.2], [0.2]], np.float32)
        >>> find_mislabelled(rows, np.array([0, 0, 1, 1, 1, 1]), count=1)[0].row
        5

    Source: this project.
    """
    check_embeddings(embeddings, labels)
    labels = labels.astype(np.int64)
    chosen = np.random.default_rng(seed).permutation(len(labels))[:sample]
    others, other_labels = _rows(embeddings, chosen), torch.from_numpy(labels[chosen])
    scores = np.full(len(labels), -1.0)
    todo = _classes(labels)
    total, done = sum(len(rows) for rows in todo), 0
    for rows in todo:
        own = _rows(embeddings, rows)
        same = other_labels == int(labels[rows[0]])
        negatives = max(1, len(same) - int(same.sum()))
        for first in range(0, len(rows), _ANCHORS):
            anchors = own[first : first + _ANCHORS]
            positive = pairwise_squared_distance(anchors, own)
            negative = pairwise_squared_distance(anchors, others).masked_fill(same, torch.inf)
            closer = torch.searchsorted(negative.sort(1).values, positive).double() / negatives
            closer[torch.arange(len(anchors)), torch.arange(first, first + len(anchors))] = np.nan
            scores[rows[first : first + _ANCHORS]] = closer.nanmedian(1).values.numpy()
        done += len(rows)
        if progress is not None:
            progress(done, total)
    worst = np.argsort(-scores, kind="stable")[:count]
    return _with_neighbours(embeddings, labels, worst[scores[worst] >= 0], scores)


def find_duplicates(
    embeddings: NDArray[Any], labels: NDArray[Any], within: float = 1e-6
) -> list[tuple[int, int, float]]:
    """Find rows of different labels that are at distance 0: one image under two names.

    Each copy of a row is listed beside the first one. Rows that are almost equal are listed beside
    their closest few. So the time is O(N log N), whatever the set holds.

    Args:
        embeddings: ``[N, D]`` float32, float64 or float16.
        labels: ``[N]`` integers.
        within: the largest squared distance that counts as 0. An image that is embedded twice, in
            two batches, may differ from itself in the last digits.

    Returns:
        Pairs (row, a later row, squared distance), in ascending order.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
        >>> find_duplicates(rows, np.array([0, 1, 2]))
        [(0, 2, 0.0)]

    Source: this project.
    """
    check_embeddings(embeddings, labels)
    first, places = _copies(embeddings)
    rows = np.arange(len(labels))
    copies = rows[(first != rows) & (labels[first] != labels)]
    duplicates = {(int(first[row]), int(row)): 0.0 for row in copies}
    alone = np.flatnonzero(first == rows)
    if len(alone) > 1:
        # In a projection two rows are never farther apart than they really are.
        near, neighbours = cKDTree(places[alone]).query(
            places[alone],
            k=min(_NEIGHBOURS, len(alone)),
            distance_upper_bound=math.sqrt(within) * (1 + 1e-6) + 1e-12,
        )
        here, which = np.nonzero(np.isfinite(near))
        a, b = alone[here], alone[neighbours[here, which]]
        differing = (a < b) & (labels[a] != labels[b])
        for p, q in zip(a[differing].tolist(), b[differing].tolist(), strict=True):
            distance = float(np.square(embeddings[p].astype(np.float64) - embeddings[q]).sum())
            if distance <= within:
                duplicates[p, q] = distance
    return [(*pair, distance) for pair, distance in sorted(duplicates.items())]


def _copies(embeddings: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first row that is equal to each row, and each row's place in a few dimensions."""
    directions = np.random.default_rng(0).standard_normal((embeddings.shape[1], _DIMENSIONS))
    directions = np.linalg.qr(directions)[0] if embeddings.shape[1] else directions
    seen: dict[bytes, int] = {}
    first = np.empty(len(embeddings), np.int64)
    places = np.empty((len(embeddings), directions.shape[1]))
    for begin in range(0, len(embeddings), MINING_CHUNK):
        chunk = np.ascontiguousarray(embeddings[begin : begin + MINING_CHUNK])
        places[begin : begin + MINING_CHUNK] = chunk.astype(np.float64) @ directions
        for row, values in enumerate(chunk, begin):
            digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
            first[row] = seen.setdefault(digest, row)
    return first, places


def _classes(labels: NDArray[Any]) -> list[NDArray[np.int64]]:
    """The rows of each class that has two or more."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    borders = 1 + np.flatnonzero(labels[order][1:] != labels[order][:-1])
    return [rows for rows in np.split(order, borders) if len(rows) > 1]


def _with_neighbours(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    suspects: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> list[Suspect]:
    """Add to each suspect its closest row of the same label, and of another."""
    rows = _rows(embeddings, suspects)
    own = torch.from_numpy(labels[suspects])
    infinity = torch.full((len(suspects),), torch.inf)
    best = {same: (infinity.clone(), torch.full((len(suspects),), -1)) for same in (True, False)}
    for begin in range(0, len(labels), MINING_CHUNK):
        chunk = np.arange(begin, min(begin + MINING_CHUNK, len(labels)))
        d = pairwise_squared_distance(rows, _rows(embeddings, chunk)).float()
        same = own[:, None] == torch.from_numpy(labels[chunk])
        itself = torch.from_numpy(suspects)[:, None] == torch.from_numpy(chunk)
        for kind, (distance, index) in best.items():
            closest = d.masked_fill((same != kind) | itself, torch.inf).min(1)
            closer = closest.values < distance
            distance[closer] = closest.values[closer]
            index[closer] = closest.indices[closer] + begin
    return [
        Suspect(
            int(row),
            float(scores[row]),
            *(int(best[True][1][i]), float(best[True][0][i])),
            *(int(best[False][1][i]), float(best[False][0][i])),
        )
        for i, row in enumerate(suspects)
    ]


def _rows(embeddings: NDArray[Any], rows: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(embeddings[rows]))
