"""Fits what follows a network to training examples: see :func:`.build_head`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.data.examples import Examples
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_examples, rows_of_examples
from facenet_ext.train.fisher import fit_fisher

_MOST = 10_000
"""About how many examples are embedded; a covariance needs some per dimension."""


def fit_head(embedder: Embedder, examples: Examples, seed: int) -> None:
    """Fit an embedder's head to training examples, one pass through the network each.

    The examples are of identities that have several. Where these are many, some are drawn. Fisher
    vectors do not depend on the network, so they are fitted once. Every process of the run calls
    this, and has the same head afterwards.

    Args:
        embedder: in evaluation mode.
        examples: of the training.
        seed: identities are drawn from it.
    """
    if not embedder.head:
        return
    head = embedder.head
    rows, labels = _drawn(examples.labels.numpy(), 2, seed)
    if not len(rows):
        return
    embeddings = torch.cat(list(embed_examples(embedder, examples, rows, "network")))
    readable = embeddings.isfinite().all(1)
    rows, embeddings = rows[readable.numpy()], embeddings[readable]
    labels = labels[readable]
    if not len(labels):
        return
    if head.wccn is not None:
        head.wccn.fit(embeddings, labels)
    if head.fisher is not None and not head.fisher.fitted:
        fit_fisher(embedder, examples, *_drawn(examples.labels.numpy(), 1, seed), seed)
    if head.cohort is not None:
        some = labels < len(head.cohort.people)
        if not some.any():
            return

        def joined(values: Tensor) -> Tensor:
            inputs = embedder.inputs(values.to(embedder.device))
            return head.joined(embedder.network(inputs), inputs).float().cpu()

        dim = head.embedding_dim - len(head.cohort.people)
        with torch.no_grad():
            parts = list(rows_of_examples(joined, dim, examples, rows[some.numpy()]))
        head.cohort.fit(torch.cat(parts), labels[some])


def _drawn(labels: NDArray[Any], least: int, seed: int) -> tuple[NDArray[np.int64], Tensor]:
    """Draw people with some images each; return the rows of these, and whose they are."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(counts >= least))
    order = order[: np.searchsorted(counts[order].cumsum(), _MOST) + 1]
    place = np.full(len(counts), -1)
    place[order] = np.arange(len(order))
    rows = np.flatnonzero(place[classes] >= 0)
    return rows, torch.from_numpy(place[classes[rows]])
