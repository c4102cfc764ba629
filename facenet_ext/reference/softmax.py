"""The losses of a softmax over each anchor's pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from facenet_ext.reference.distances import pairwise_distance
from facenet_ext.reference.selection import positives_of, same_codes


def supcon_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    *,
    reduction: str = "mean_nonzero",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> Tensor:
    """Return the supervised contrastive loss.

    With ``s(j) = -d(a, j) / temperature`` of the cosine distance, each anchor a with a positive
    adds the mean over p in P(a) of ``logsumexp(s(P(a) and N(a))) - s(p)``, and others add 0.

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        temperature: above 0.
        reduction: "mean_nonzero" (over anchors with a positive and another candidate), "mean" (over
            all anchors) or "sum".
        ref_emb: as in :func:`select_triplets`.
        ref_labels: as in :func:`select_triplets`.
        anchor_ids: as in :func:`select_triplets`; excluded candidates are not in the sum.
        ref_ids: as in :func:`select_triplets`.

    Returns:
        A float64 scalar: 0 where the batch has no negative, NaN where any embedding is not finite.

    Raises:
        KeyError: an unknown reduction.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(supcon_loss(x, torch.tensor([0, 0, 1]), 1.0).item(), 6)  # log(1 + exp(-2))
        0.126928

    Khosla et al., "Supervised Contrastive Learning" (NeurIPS 2020), equation 2.
    """
    losses, nonzero = [_poison(embeddings, ref_emb)], 0
    batch = (embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    for d, positive, negative in _anchors(*batch):
        if positive.any():
            s, others = -d / temperature, positive | negative
            losses.append((torch.logsumexp(s[others], 0) - s[positive]).mean())
            nonzero += int(others.sum() > 1)
    return _reduced(losses, reduction, mean=len(embeddings), mean_nonzero=nonzero)


def ntxent_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.07,
    *,
    reduction: str = "mean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> Tensor:
    """Return the normalised temperature-scaled cross entropy of each anchor and positive.

    With s as in :func:`supcon_loss`, each pair (a, p) adds ``softplus(logsumexp(s(N(a))) - s(p))``.

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        temperature: above 0.
        reduction: "mean" (over all pairs of an anchor and a positive), "mean_nonzero" (over those
            whose anchor has a negative) or "sum".
        ref_emb: as in :func:`select_triplets`.
        ref_labels: as in :func:`select_triplets`.
        anchor_ids: as in :func:`select_triplets`.
        ref_ids: as in :func:`select_triplets`.

    Returns:
        A float64 scalar, NaN where any embedding is not finite.

    Raises:
        KeyError: an unknown reduction.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> round(ntxent_loss(x, torch.tensor([0, 0, 1]), 1.0).item(), 6)  # log(1 + exp(-2))
        0.126928

    Chen et al. (SimCLR, ICML 2020), equation 1, with labels.
    """
    losses, pairs, nonzero = [_poison(embeddings, ref_emb)], 0, 0
    batch = (embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    for d, positive, negative in _anchors(*batch):
        pairs += int(positive.sum())
        if positive.any() and negative.any():
            s = -d / temperature
            v = torch.logsumexp(s[negative], 0) - s[positive]
            losses.append(torch.logaddexp(v, torch.zeros_like(v)).sum())
            nonzero += len(v)
    return _reduced(losses, reduction, mean=pairs, mean_nonzero=nonzero)


def _anchors(
    embeddings: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    anchor_ids: Tensor | None,
    ref_ids: Tensor | None,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Each anchor's cosine distances [N], P(a) and N(a); [] where the batch has no negative."""
    y, z = same_codes(labels, labels if ref_labels is None else ref_labels)
    d = pairwise_distance(embeddings, ref_emb, "cosine")
    z = z.to(d.device)
    anchors = [
        (d[i], positives_of(i, code, z, ref_emb is None, anchor_ids, ref_ids), z != code)
        for i, code in enumerate(y)
    ]
    return anchors if any(bool(negative.any()) for _, _, negative in anchors) else []


def _poison(embeddings: Tensor, ref_emb: Tensor | None) -> Tensor:
    """0, or NaN where any embedding is not finite."""
    candidates = embeddings if ref_emb is None else ref_emb
    return 0.0 * (embeddings.double().sum() + candidates.double().sum())


def _reduced(losses: list[Tensor], reduction: str, **counts: int) -> Tensor:
    return torch.stack(losses).sum() / max({**counts, "sum": 1}[reduction], 1)
