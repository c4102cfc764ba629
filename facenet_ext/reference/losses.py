"""The loss of given triplets, of those that a rule selects, and of all of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from facenet_ext._types import Triplets
from facenet_ext.reference.distances import distance_between, pairwise_distance
from facenet_ext.reference.selection import positives_of, same_codes, select_triplets


def triplet_loss(
    embeddings: Tensor,
    triplets: Triplets | Sequence[Tensor],
    margin: float = 0.2,
    *,
    distance: str = "sqeuclidean",
    smooth: bool = False,
    swap: bool = False,
    reduction: str = "mean",
    ref_emb: Tensor | None = None,
) -> Tensor:
    """Return the triplet loss of given triplets.

    With ``g(t) = d(a, p) - d(a, n) + margin``:

        h(t) = max(0, g(t))            smooth=False
        h(t) = log(1 + exp(g(t)))      smooth=True

    ``reduction`` is "mean" (over all triplets, satisfied ones included), "mean_nonzero" (over those
    with h(t) > 0), "sum", or "none". Without triplets the loss is 0 with a zero gradient ("none":
    empty), and it still requires a gradient when the embeddings do.

    A NaN or an infinity in any row makes the loss of every triplet NaN. The formula alone would
    hide an infinitely far negative (h = 0), so each h(t) carries a *poison* term: 0 times the sum
    of all embeddings, which is 0 unless one of them is not finite.

    Args:
        embeddings: anchors, [M, D].
        triplets: ``(anchor, positive, negative)`` index tensors [T]; further fields, such as the
            distances of :class:`Triplets`, are not used.
        margin: the margin, in units of the distance.
        distance: "sqeuclidean", "euclidean" or "cosine".
        smooth: softplus in place of the hinge.
        swap: d(a, n) is the smaller of d(a, n) and d(p, n) (anchor swap, Balntas et al., 2016).
        reduction: "mean", "mean_nonzero", "sum" or "none".
        ref_emb: candidates, [N, D], that ``positive`` and ``negative`` index; ``embeddings`` when
            None.

    Returns:
        A float64 scalar; for "none" [T].

    Raises:
        KeyError: an unknown reduction.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> one = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
        >>> triplet_loss(x, one, margin=8.5).item()
        0.5
        >>> triplet_loss(x, one, margin=8.0, smooth=True).item()  # doctest: +ELLIPSIS
        0.693147180559945...

    FaceNet (CVPR 2015), section 3.1; softplus: Hermans et al. (2017), section 2.
    """
    anchor, positive, negative = (index.long() for index in triplets[:3])
    x = embeddings.double()
    candidates = x if ref_emb is None else ref_emb.double()
    d_ap = distance_between(x[anchor], candidates[positive], distance)
    d_an = distance_between(x[anchor], candidates[negative], distance)
    if swap:
        d_pn = distance_between(candidates[positive], candidates[negative], distance)
        d_an = torch.minimum(d_an, d_pn)
    gap = d_ap - d_an + margin
    h = torch.logaddexp(gap, torch.zeros_like(gap)) if smooth else torch.relu(gap)
    if smooth and reduction == "mean_nonzero":
        reduction = "mean"  # softplus is positive, even where it rounds to 0
    return _REDUCTIONS[reduction](h + 0.0 * (x.sum() + candidates.sum()))


def mined_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    positives: str = "all",
    negatives: str = "semihard",
    within_margin: bool = False,
    fallback: str = "farthest",
    distance: str = "sqeuclidean",
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    max_per_class: int | None = None,
    generator: torch.Generator | None = None,
    smooth: bool = False,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return the triplet loss of the triplets that :func:`select_triplets` selects.

    ``triplet_loss(embeddings, select_triplets(embeddings, labels, ...), margin, ...)``. Selection
    carries no gradient; the gradient flows through the distances of what was selected.

    A NaN or an infinity in any row, selected or not, makes the loss NaN: a comparison with NaN is
    false, so selection would pass such a row over in silence. The *poison* term is 0 times the sum
    of all embeddings, which is 0 unless one of them is not finite.

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        margin: the margin of the loss, and of ``within_margin``.
        positives: as in :func:`select_triplets`.
        negatives: as in :func:`select_triplets`.
        within_margin: as in :func:`select_triplets`.
        fallback: as in :func:`select_triplets`.
        distance: as in :func:`select_triplets`.
        cutoff: as in :func:`select_triplets`.
        nonzero_loss_cutoff: as in :func:`select_triplets`.
        ref_emb: as in :func:`select_triplets`; it receives a gradient too.
        ref_labels: as in :func:`select_triplets`.
        anchor_ids: as in :func:`select_triplets`.
        ref_ids: as in :func:`select_triplets`.
        max_per_class: a promise that no anchor's class has more candidates; it changes no result.
        generator: as in :func:`select_triplets`.
        smooth: as in :func:`triplet_loss`.
        swap: as in :func:`triplet_loss`; selection ignores it.
        reduction: as in :func:`triplet_loss`.

    Returns:
        A float64 scalar; for "none" [T].

    Raises:
        KeyError: an unknown rule, fallback or reduction.
        ValueError: a class larger than ``max_per_class``.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> y = torch.tensor([0, 0, 1, 1])
        >>> mined_triplet_loss(x, y, 0.5, distance="euclidean").item()
        0.625
        >>> mined_triplet_loss(x, y, 0.5, distance="sqeuclidean").item()
        1.8125

    FaceNet (CVPR 2015), sections 3.1 and 3.2; batch hard: Hermans et al. (2017), section 2.
    """
    if max_per_class is not None:
        candidates = labels if ref_labels is None else ref_labels
        largest = int((labels.unsqueeze(1) == candidates).sum(1).max()) if len(labels) else 0
        if largest > max_per_class:
            raise ValueError(f"max_per_class: {max_per_class}, but a class has {largest} rows")
    triplets = select_triplets(
        embeddings,
        labels,
        positives=positives,
        negatives=negatives,
        margin=margin,
        within_margin=within_margin,
        fallback=fallback,
        distance=distance,
        cutoff=cutoff,
        nonzero_loss_cutoff=nonzero_loss_cutoff,
        ref_emb=ref_emb,
        ref_labels=ref_labels,
        anchor_ids=anchor_ids,
        ref_ids=ref_ids,
        generator=generator,
    )
    loss = triplet_loss(
        embeddings,
        triplets,
        margin,
        distance=distance,
        smooth=smooth,
        swap=swap,
        reduction=reduction,
        ref_emb=ref_emb,
    )
    poison = 0.0 * embeddings.double().sum()
    if ref_emb is not None:
        poison = poison + 0.0 * ref_emb.double().sum()
    return loss + poison


def triplet_margin_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    triplets: str = "all",
    distance: str = "sqeuclidean",
    smooth: bool = False,
    reduction: str = "mean_nonzero",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    max_per_class: int | None = None,
) -> Tensor:
    """Return the triplet loss over every triplet of a kind, by listing each anchor's P x N.

    With the gap ``g = d(a, n) - d(a, p)`` of each anchor a, positive p in P(a), negative n in N(a),
    ``h = max(0, margin - g)``, or softplus of that where ``smooth``, and the kinds are

    | ``triplets`` | which triplets |
    |---|---|
    | "all" | all |
    | "hard" | g <= 0 |
    | "semihard" | 0 < g <= margin |
    | "easy" | g > margin |

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        margin: the margin, in units of the distance.
        triplets: the kind.
        distance: "sqeuclidean", "euclidean" or "cosine".
        smooth: softplus in place of the hinge.
        reduction: "mean_nonzero", "mean" (over the triplets of the kind) or "sum".
        ref_emb: as in :func:`select_triplets`.
        ref_labels: as in :func:`select_triplets`.
        anchor_ids: as in :func:`select_triplets`.
        ref_ids: as in :func:`select_triplets`.
        max_per_class: a promise that no anchor's class has more candidates; it changes no result.

    Returns:
        A float64 scalar, NaN where any embedding is not finite.

    Raises:
        KeyError: an unknown kind or reduction.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> triplet_margin_loss(x, torch.tensor([0, 0, 1]), 8.5).item()  # 1 - 9, 1 - 4, + 8.5
        3.0

    FaceNet (CVPR 2015), section 3.1; "batch all" of Hermans et al. (2017), section 2.
    """
    candidates = embeddings if ref_emb is None else ref_emb
    y, z = same_codes(labels, labels if ref_labels is None else ref_labels)
    is_of_kind = _KINDS[triplets]
    d = pairwise_distance(embeddings, candidates, distance)
    z = z.to(d.device)
    poison = 0.0 * (embeddings.double().sum() + candidates.double().sum())
    losses = [poison.reshape(1)[:0]]
    for i in range(len(embeddings)):
        is_negative = z != y[i]
        is_positive = positives_of(i, y[i], z, ref_emb is None, anchor_ids, ref_ids)
        gap = (d[i, is_negative] - d[i, is_positive].unsqueeze(1)).flatten()
        v = margin - gap[is_of_kind(gap.detach(), margin)]
        losses.append(torch.logaddexp(v, torch.zeros_like(v)) if smooth else torch.relu(v))
    if smooth and reduction == "mean_nonzero":
        reduction = "mean"  # softplus is positive, even where it rounds to 0
    return _REDUCTIONS[reduction](torch.cat(losses)) + poison


# --- the kinds of triplets, by the gap d(a, n) - d(a, p) ----------------------------------------


_KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "all": lambda gap, margin: torch.ones_like(gap, dtype=torch.bool),
    "hard": lambda gap, margin: gap <= 0,
    "semihard": lambda gap, margin: (gap > 0) & (gap <= margin),
    "easy": lambda gap, margin: gap > margin,
}


# --- reductions of h(t), [T] -----------------------------------------------------------------


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda h: h.sum() / max(h.numel(), 1),
    "mean_nonzero": lambda h: h.sum() / max(int((h > 0).sum()), 1),
    "sum": lambda h: h.sum(),
    "none": lambda h: h,
}
