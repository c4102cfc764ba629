"""Finds images that are probably under the wrong name, or under two names.

The hardest triplets of a large set are mostly mistakes in it (FaceNet, section 3.2: "mislabelled
and poorly imaged faces would dominate the hard positives and negatives").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from facenet_ext.functional import pairwise_squared_distance
from facenet_ext.mining.offline import CHUNK, blocks, check_embeddings

__all__ = ["Suspect", "find_duplicates", "find_mislabelled"]

_ANCHORS = 512


class Suspect(NamedTuple):
    """A row that is probably under the wrong label.

    Attributes:
        row: which one.
        score: how much speaks for it, from 0 to 1.
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

    with S a sample of all rows. Near 0 for a row among its own kind, about a half for one whose
    label says nothing. The median asks the label's majority: one wrong row among many does not
    make the others suspicious. Of a label with two rows, both are as suspicious.

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
    chosen = np.random.default_rng(seed).permutation(len(labels))[:sample]
    others, other_labels = (
        _rows(embeddings, chosen),
        torch.from_numpy(labels[chosen].astype(np.int64)),
    )
    scores = np.full(len(labels), -1.0)
    todo = blocks(labels, 1)  # a class each
    total, done = sum(len(block.rows) for block in todo), 0
    for block in todo:
        own = _rows(embeddings, block.rows)
        different = other_labels != int(labels[block.rows[0]])
        negatives = others[different]
        for first in range(0, len(block.rows), _ANCHORS):
            anchors = own[first : first + _ANCHORS]
            positive = pairwise_squared_distance(anchors, own)
            negative = pairwise_squared_distance(anchors, negatives).sort(1).values
            closer = torch.searchsorted(negative, positive).double() / max(1, len(negatives))
            closer[torch.arange(len(anchors)), torch.arange(first, first + len(anchors))] = np.nan
            scores[block.rows[first : first + _ANCHORS]] = closer.nanmedian(1).values.numpy()
        done += len(block.rows)
        if progress is not None:
            progress(done, total)
    worst = np.argsort(-scores, kind="stable")[:count]
    return _with_neighbours(embeddings, labels, worst[scores[worst] >= 0], scores)


def find_duplicates(
    embeddings: NDArray[Any], labels: NDArray[Any], within: float = 1e-6
) -> list[tuple[int, int, float]]:
    """Find rows of different labels that are at distance 0: one image under two names.

    Args:
        embeddings: ``[N, D]`` float32, float64 or float16.
        labels: ``[N]`` integers.
        within: the largest squared distance that counts as 0: of one image embedded twice, in other
            company, the last digits may differ.

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
    # Rows that close are as close on any line: sort along one, and look at neighbours only.
    direction = np.random.default_rng(0).standard_normal((embeddings.shape[1],))
    direction /= np.linalg.norm(direction)
    places = np.concatenate(
        [
            embeddings[i : i + CHUNK].astype(np.float64) @ direction
            for i in range(0, len(labels), CHUNK)
        ]
        or [np.empty(0)]
    )
    order = np.argsort(places, kind="stable")
    places = places[order]
    reach = math.sqrt(within) * (1 + 1e-6) + 1e-12
    found = []
    near, gap = np.arange(len(order)), 1
    while len(near := near[near + gap < len(order)]):
        near = near[places[near + gap] - places[near] <= reach]
        a, b = order[near], order[near + gap]
        differing = labels[a] != labels[b]
        a, b = a[differing], b[differing]
        for i in range(0, len(a), CHUNK):
            x, y = embeddings[a[i : i + CHUNK]], embeddings[b[i : i + CHUNK]]
            d = np.square(x.astype(np.float64) - y).sum(1)
            found += [
                (int(min(p, q)), int(max(p, q)), float(v))
                for p, q, v in zip(a[i:], b[i:], d, strict=False)
                if v <= within
            ]
        gap += 1
    return sorted(found)


def _with_neighbours(
    embeddings: NDArray[Any],
    labels: NDArray[Any],
    suspects: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> list[Suspect]:
    """Add to each suspect its closest row of the same label, and of another."""
    rows = _rows(embeddings, suspects)
    own = torch.from_numpy(labels[suspects].astype(np.int64))
    infinity = torch.full((len(suspects),), torch.inf)
    best = {same: (infinity.clone(), torch.full((len(suspects),), -1)) for same in (True, False)}
    for begin in range(0, len(labels), CHUNK):
        chunk = np.arange(begin, min(begin + CHUNK, len(labels)))
        d = pairwise_squared_distance(rows, _rows(embeddings, chunk)).float()
        same = own[:, None] == torch.from_numpy(labels[chunk].astype(np.int64))
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
