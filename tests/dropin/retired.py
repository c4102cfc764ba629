"""The published algorithms of libraries that no longer run, written anew in NumPy.

Each does what its original does with every batch, odd ones included, in float64 and with distances
from differences. Names and arguments are the originals'.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def squared_distances(x: Array) -> Array:
    return np.square(x[:, None] - x[None]).sum(-1)


# --- TensorFlow-Addons 0.23, tfa.losses: loss(labels, embeddings) ---------------------------------


def _angular(x: Array) -> Array:
    norm = np.sqrt(np.maximum(np.square(x).sum(1, keepdims=True), 1e-12))
    return 1.0 - (x / norm) @ (x / norm).T


_METRICS: dict[str, Callable[[Array], Array]] = {
    "L2": lambda x: np.sqrt(squared_distances(x)),
    "squared-L2": squared_distances,
    "angular": _angular,
}


def _largest(d: Array, mask: Array) -> Array:
    """The largest entry of each row under the mask; of an empty mask the row's smallest."""
    low = d.min(1, keepdims=True)
    return (np.where(mask, d - low, 0.0)).max(1) + low[:, 0]


def _smallest(d: Array, mask: Array) -> Array:
    """The smallest entry of each row under the mask; of an empty mask the row's largest."""
    return -_largest(-d, mask)


def _tfa_batch(y: Any, x: Any, metric: str) -> tuple[Array, Array, Array]:
    """Distances, and which pairs are positive and negative."""
    y, x = np.asarray(y), np.asarray(x, np.float64)
    same = y[:, None] == y[None]
    return _METRICS[metric](x), same & ~np.eye(len(y), dtype=bool), ~same


def _tfa_semihard(margin: float = 1.0, distance_metric: str = "L2") -> Callable[..., Any]:
    def loss(y: Any, x: Any) -> Any:
        d, positive, negative = _tfa_batch(y, x, distance_metric)
        farthest = _largest(d, negative)
        hinges = np.zeros_like(d)
        for a, p in zip(*positive.nonzero(), strict=True):
            beyond = negative[a] & (d[a] > d[a, p])
            d_an = d[a, beyond].min() if beyond.any() else farthest[a]
            hinges[a, p] = max(d[a, p] - d_an + margin, 0.0)
        with np.errstate(invalid="ignore"):
            mean = np.float64(hinges.sum()) / positive.sum()
        return _as_embeddings(mean, x)

    return loss


def _tfa_hard(
    margin: float = 1.0, soft: bool = False, distance_metric: str = "L2"
) -> Callable[..., Any]:
    def loss(y: Any, x: Any) -> Any:
        d, positive, negative = _tfa_batch(y, x, distance_metric)
        gap = _largest(d, positive) - _smallest(d, negative)
        hinges = np.log1p(np.exp(gap)) if soft else np.maximum(gap + margin, 0.0)
        return _as_embeddings(hinges.mean(), x)

    return loss


def _as_embeddings(loss: Any, x: Any) -> Any:
    """The loss in the type of the embeddings."""
    return np.asarray(loss, np.asarray(x).dtype)


tfa = SimpleNamespace(
    losses=SimpleNamespace(TripletSemiHardLoss=_tfa_semihard, TripletHardLoss=_tfa_hard)
)


# --- davidsandberg/facenet, train_tripletloss.py --------------------------------------------------


def _facenet_loss(anchor: Any, positive: Any, negative: Any, alpha: float) -> Any:
    a, p, n = (np.asarray(rows, np.float64) for rows in (anchor, positive, negative))
    gap = np.square(a - p).sum(1) - np.square(a - n).sum(1)
    return np.maximum(gap + alpha, 0.0).mean()


def _l2_normalize(x: Any, axis: int, epsilon: float) -> Array:
    x = np.asarray(x, np.float64)
    return x / np.sqrt(np.maximum(np.square(x).sum(axis, keepdims=True), epsilon))


def candidates(x: Any, y: Any, alpha: float) -> dict[tuple[int, int], list[int]]:
    """What facenet's `select_triplets` and OpenFace's `trainBatch` draw a negative from.

    For each pair (a, p), the earlier image of a class being the anchor: the images n of other
    classes with d(a, n) - d(a, p) < alpha. Pairs without any are left out.
    """
    d, y = squared_distances(np.asarray(x, np.float64)), np.asarray(y)
    found = {}
    for a in range(len(y)):
        for p in range(a + 1, len(y)):
            if y[a] == y[p]:
                n = [k for k in range(len(y)) if y[k] != y[a] and d[a, k] - d[a, p] < alpha]
                if n:
                    found[a, p] = n
    return found


facenet = SimpleNamespace(triplet_loss=_facenet_loss)
tf = SimpleNamespace(nn=SimpleNamespace(l2_normalize=_l2_normalize))


# --- OpenFace, training/train.lua, and its criterion ----------------------------------------------


class TripletEmbeddingCriterion:
    """nn.TripletEmbeddingCriterion, with the gradient that it spells out."""

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = alpha

    def forward(self, apn: Any) -> Any:
        return self._hinges(apn).mean()

    def backward(self, apn: Any) -> tuple[Array, Array, Array]:
        a, p, n = (np.asarray(rows, np.float64) for rows in apn)
        weight = 2.0 * (self._hinges(apn) > 0)[:, None] / len(a)
        return weight * (n - p), weight * (p - a), weight * (a - n)

    def _hinges(self, apn: Any) -> Array:
        a, p, n = (np.asarray(rows, np.float64) for rows in apn)
        return np.maximum(np.square(a - p).sum(1) + self.alpha - np.square(a - n).sum(1), 0.0)


def openface_candidates(x: Any, y: Any, alpha: float, a: int, p: int) -> list[int]:
    """What OpenFace draws the negative of one pair from.

    It gives the anchor's class the largest gap of all instead of taking it out: if that is inside
    the margin, all are.
    """
    d, y = squared_distances(np.asarray(x, np.float64)), np.asarray(y)
    gap = d[a] - d[a, p]
    gap[y == y[a]] = gap.max()
    return np.flatnonzero(gap < alpha).tolist()


nn = SimpleNamespace(TripletEmbeddingCriterion=TripletEmbeddingCriterion)
