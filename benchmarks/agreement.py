"""Checks that peers that claim the same result have it, before anything is measured."""

import torch
from torch import Tensor

from benchmarks import distances, margin, peers
from benchmarks.cases import MARGIN, Case
from facenet_ext import reference

SMALL = (Case(64, 8), Case(50, 7), Case(600, 4))
"""Equal classes, a smaller last class, and few enough pairs for plain torch's other backward."""


def check() -> None:
    """Raise AssertionError, with a name, where a peer does not compute what it says."""
    for case in SMALL:
        embeddings, labels = case.batch()
        loss = reference.mined_triplet_loss(embeddings, labels, MARGIN)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        for peer in peers.PEERS:
            if peer.computes == peers.SAME and peer.bytes(case) < peers.GIB:
                _check_same(peer, case, loss.detach(), gradient)
        _check_band(case)
        embeddings, labels = case.batch()
        loss = reference.triplet_margin_loss(embeddings, labels, MARGIN)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        for peer in margin.PEERS:
            if peer.computes == margin.SAME:
                _check_same(peer, case, loss.detach(), gradient)
        d = reference.pairwise_distance(embeddings.detach())
        for peer in distances.PEERS:
            if "distances" in peer.computes:
                _check_distances(peer, case, d)


def _check_same(peer: peers.Peer, case: Case, loss: Tensor, gradient: Tensor) -> None:
    embeddings, labels = case.batch()
    got = peer.build()(embeddings, labels)
    got.backward()
    message = f"{peer} on {case}: not the same loss, or not the same gradient"
    torch.testing.assert_close(
        got.detach().double(), loss, rtol=1e-5, atol=0, msg=lambda text: f"{message}\n{text}"
    )
    # By norm, not by entry: a near tie may choose another negative, with almost the same loss.
    error = float((embeddings.grad - gradient).norm() / gradient.norm())
    assert error < 0.05, f"{message} ({error:.2g} of its norm)"


def _check_band(case: Case) -> None:
    """pytorch-metric-learning: every negative with 0 < d(a, n) - d(a, p) <= margin."""
    embeddings, labels = case.batch()
    d = reference.pairwise_distance(embeddings.detach())
    same = labels[:, None] == labels[None, :]
    positives = same & ~torch.eye(len(labels), dtype=torch.bool)
    gap = d[:, None, :] - d[:, :, None]
    chosen = positives[:, :, None] & ~same[:, None, :] & (gap > 0) & (gap <= MARGIN)
    losses = (MARGIN - gap)[chosen]
    expected = losses[losses > 0].mean()
    got = peers.METRIC_LEARNING.build()(embeddings, labels).detach()
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=0)


def _check_distances(peer: peers.Peer, case: Case, d: Tensor) -> None:
    embeddings, labels = case.batch()
    got = peer.build()(embeddings.detach(), labels).double()
    expected = d.sqrt() if "not squared" in peer.computes else d
    # The Gram identity leaves about sqrt(eps) on the diagonal, once rooted.
    torch.testing.assert_close(
        got, expected, rtol=1e-4, atol=2e-3, msg=lambda text: f"{peer} on {case}\n{text}"
    )
