"""Fits :class:`.FisherVectors` to images of the training."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.mixture import GaussianMixture  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.data.examples import Examples
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import rows_of_examples
from facenet_ext.models import WCCN, FisherVectors

_IMAGES, _PATCHES = 1200, 100
"""Whose patches the mixture is fitted to, and how many of each."""
_STEPS = 25
"""Of the fit of the mixture, which changes little afterwards."""
_LEAST_VARIANCE = 0.01
"""Of a Gaussian, where that of the mean component is 1."""
_POWERS, _SPARE = 4, 100
"""Iterations for the principal components, and components that are found and left: without, the
last are mixed with the next, and verify worse."""


@torch.no_grad()
def fit_fisher(
    embedder: Embedder, examples: Examples, rows: NDArray[np.int64], labels: Tensor, seed: int
) -> None:
    """Fit an embedder's Fisher vectors to images. Every process of the run calls this.

    Of two readable images or fewer they stay as they are.

    Args:
        embedder: in evaluation mode, with Fisher vectors.
        examples: of the training.
        rows: which of them.
        labels: [len(rows)] integers, whose each is.
        seed: of all that is drawn.
    """
    fisher = embedder.head.fisher
    assert fisher is not None
    which = torch.rand(256, _PATCHES, generator=torch.Generator().manual_seed(seed))

    def inputs(images: Tensor) -> Tensor:
        return embedder.inputs(images.to(embedder.device))

    def some_patches(images: Tensor) -> Tensor:
        drawn = []
        for image, few in zip(inputs(images), which, strict=False):
            patches, places = fisher.patches(image[None])
            chosen = (few.to(places.device) * len(places)).long()
            drawn.append(torch.cat([patches[0, chosen], places[chosen]], 1).flatten())
        return torch.stack(drawn).cpu()

    def vectors(images: Tensor) -> Tensor:
        return fisher.vectors(inputs(images)).cpu()

    some, length = np.random.default_rng(seed).permutation(rows)[:_IMAGES], sum(fisher.patch_size)
    drawn = torch.cat([*rows_of_examples(some_patches, _PATCHES * length, examples, some)])
    drawn = drawn[drawn.isfinite().all(1)].view(-1, length)
    if len(drawn) < len(fisher.shares):
        return
    patches, places = torch.split(drawn, fisher.patch_size, 1)
    fit_mixture(fisher, patches, places, seed)
    described, done = torch.empty(len(rows), len(fisher.projection)), 0
    for part in rows_of_examples(vectors, len(fisher.projection), examples, rows):
        described[done : done + len(part)] = part
        done += len(part)
    readable = described.isfinite().all(1)
    if not readable.all():
        described, labels = described[readable], labels[readable]
    fit_projection(fisher, described, labels, seed)


def fit_mixture(fisher: FisherVectors, patches: Tensor, places: Tensor, seed: int) -> None:
    """Measure what patches look like in general.

    Args:
        fisher: whose mixture is fitted.
        patches: [M, 128], patches of many images: see :meth:`.FisherVectors.patches`.
        places: [M, 2], where each is.
        seed: the mixture begins at patches drawn with it.
    """
    fisher.centre.copy_(patches.mean(0))
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
    kept = fisher.basis.shape[1]
    scale = values[-kept:].mean().clamp_min(1e-12).rsqrt()  # so that places count as much
    fisher.basis.copy_(vectors[:, -kept:] * scale)
    mixture = GaussianMixture(
        len(fisher.shares),
        covariance_type="diag",
        reg_covar=_LEAST_VARIANCE,
        max_iter=_STEPS,
        init_params="random_from_data",
        random_state=seed,
    )
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        reduced = (patches - fisher.centre.cpu()) @ fisher.basis.cpu()
        mixture.fit(torch.cat([reduced, places], 1).numpy())
    for buffer, found in (
        (fisher.shares, mixture.weights_),
        (fisher.means, mixture.means_),
        (fisher.deviations, mixture.covariances_**0.5),
    ):
        buffer.copy_(torch.from_numpy(found))


def fit_projection(fisher: FisherVectors, vectors: Tensor, labels: Tensor, seed: int) -> None:
    """Keep of Fisher vectors what varies most, and whiten it by how images of one person scatter.

    Args:
        fisher: whose projection is fitted.
        vectors: [M, F], which this centres: see :meth:`.FisherVectors.vectors`.
        labels: [M] integers, whose each is.
        seed: of the random projections by which the principal components are found.
    """
    mean = vectors.mean(0)
    vectors -= mean
    dim = fisher.embedding_dim
    basis = torch.zeros(len(mean), dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sought = min(dim + _SPARE, *vectors.shape)
        _, _, found = torch.svd_lowrank(vectors, sought, niter=_POWERS)
    basis[:, : found.shape[1]] = found[:, :dim]
    wccn = WCCN(dim)
    wccn.fit(vectors @ basis, labels)
    fisher.projection.copy_(basis @ wccn.transform)
    fisher.offset.copy_((mean @ basis + wccn.mean) @ wccn.transform)
