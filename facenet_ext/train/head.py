"""Fits what follows a network to training examples: see :func:`.build_head`."""

from __future__ import annotations

import numpy as np
import torch

from facenet_ext.data.examples import Examples
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_examples
from facenet_ext.models import WCCN, Cohort

_MOST = 20_000
"""About how many examples are embedded; a covariance needs some per dimension."""


def fit_head(embedder: Embedder, examples: Examples, seed: int) -> None:
    """Fit an embedder's head to training examples, one pass through the network each.

    The examples are of identities that have several. Where these are many, some are drawn. Every
    process of the run calls this, and has the same head afterwards.

    Args:
        embedder: in evaluation mode.
        examples: of the training.
        seed: identities are drawn from it.
    """
    if not len(embedder.head):
        return
    _, classes, counts = np.unique(examples.labels.numpy(), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(counts > 1))
    order = order[: np.searchsorted(counts[order].cumsum(), _MOST) + 1]
    place = np.full(len(counts), -1)
    place[order] = np.arange(len(order))
    rows = np.flatnonzero(place[classes] >= 0)
    if not len(rows):
        return
    embeddings = torch.cat(list(embed_examples(embedder, examples, rows, "network")))
    readable = embeddings.isfinite().all(1)
    embeddings, labels = embeddings[readable], torch.from_numpy(place[classes[rows]])[readable]
    if not len(labels):
        return
    for layer in embedder.head:
        assert isinstance(layer, (WCCN, Cohort))
        layer.fit(embeddings, labels)
        embeddings = layer(embeddings.to(embedder.device)).cpu()
