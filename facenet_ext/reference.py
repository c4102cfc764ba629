"""The semantics of :mod:`facenet_ext.functional` in plain float64 PyTorch.

This module is the oracle of the tests and of the benchmarks, and it doubles as documentation: each
function says in a few lines what its fast counterpart computes. It is written for clarity. It loops
over anchors, keeps whole rows of distances, and takes its gradients from PyTorch's autograd.

Every input (float16, bfloat16, float32 or float64) is converted to float64 first, and every
distance and loss that comes out is float64. Arguments are not validated here.

Notation, used throughout: anchors ``x`` [M, D] with labels ``y``, candidates ``c`` [N, D] with
labels ``z``. In *self mode* the candidates are the anchors and the pair (i, i) is excluded. In
*reference mode* (``ref_emb``, ``ref_labels``) no pair is excluded unless ids are given::

    P(i) = { j : z_j = y_i, not excluded }      positives of anchor i
    N(i) = { j : z_j != y_i }                   negatives of anchor i

Papers: F. Schroff, D. Kalenichenko, J. Philbin, "FaceNet: A Unified Embedding for Face Recognition
and Clustering", CVPR 2015 (loss: section 3.1, selection: section 3.2); A. Hermans, L. Beyer,
B. Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017 (batch hard and the
soft margin: section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from facenet_ext._types import Triplets

__all__ = [
    "mined_triplet_loss",
    "pairwise_distance",
    "pairwise_squared_distance",
    "select_triplets",
    "triplet_loss",
    "triplet_margin_loss",
]


def pairwise_squared_distance(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Return the squared Euclidean distance of every row of ``x`` to every row of ``y``.

    ``d[i, j] = sum_k (x[i, k] - y[j, k])**2``, by direct differences: equal rows are at exactly 0.

    Args:
        x: [M, D].
        y: [N, D]; ``x`` itself when None.

    Returns:
        [M, N], float64, differentiable.

    Raises:
        RuntimeError: ``x`` and ``y`` have different numbers of columns.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> pairwise_squared_distance(x).tolist()
        [[0.0, 25.0], [25.0, 0.0]]

    The distance of FaceNet (CVPR 2015), section 3.
    """
    return pairwise_distance(x, y, distance="sqeuclidean")


def pairwise_distance(x: Tensor, y: Tensor | None = None, distance: str = "sqeuclidean") -> Tensor:
    """Return the distance of every row of ``x`` to every row of ``y``.

    ========================  =======================================================
    ``distance``              ``d[i, j]``
    ========================  =======================================================
    ``"sqeuclidean"``         ``|x_i - y_j|**2``
    ``"euclidean"``           ``|x_i - y_j|``, with gradient 0 where it is 0
    ``"cosine"``              ``1 - cos(x_i, y_j)``; 1, with gradient 0, to and from a
                              zero vector (to another zero vector as well)
    ========================  =======================================================

    Args:
        x: [M, D].
        y: [N, D]; ``x`` itself when None.
        distance: one of the three above.

    Returns:
        [M, N], float64, differentiable.

    Raises:
        RuntimeError: ``x`` and ``y`` have different numbers of columns.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-3.0, -4.0]])
        >>> pairwise_distance(x, distance="euclidean").tolist()
        [[0.0, 5.0, 5.0], [5.0, 0.0, 10.0], [5.0, 10.0, 0.0]]
        >>> pairwise_distance(x, distance="cosine")[:2].tolist()
        [[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]]

    The squared distance is that of FaceNet (CVPR 2015), section 3; the others are common variants.
    """
    x = x.double()
    y = x if y is None else y.double()
    rows = [_distance(row, y, distance) for row in x]
    # Without rows there is nothing to stack; the product keeps the result attached to its inputs.
    return torch.stack(rows) if rows else x @ y.T


def select_triplets(
    embeddings: Tensor,
    labels: Tensor,
    *,
    positives: str = "all",
    negatives: str = "semihard",
    margin: float = 0.2,
    within_margin: bool = False,
    fallback: str = "farthest",
    distance: str = "sqeuclidean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """Select (anchor, positive, negative) triplets by rule.

    For each anchor i with at least one positive and one negative, ``positives`` chooses p:

    ==============  =====================================
    ``positives``   which p
    ==============  =====================================
    ``"all"``       every p in P(i)
    ``"hardest"``   argmax d(i, p) over P(i), one per anchor
    ``"easiest"``   argmin d(i, p) over P(i), one per anchor
    ==============  =====================================

    and for each (i, p) ``negatives`` chooses n:

    ==============  ==========================================================
    ``negatives``   which n
    ==============  ==========================================================
    ``"semihard"``  argmin d(i, n) over n in N(i) with d(i, n) > d(i, p), and, with
                    ``within_margin``, d(i, n) < d(i, p) + margin; both strict
    ``"hardest"``   argmin d(i, n) over N(i)
    ==============  ==========================================================

    Ties go to the lowest index, for p and for n. When no n qualifies, ``fallback="farthest"`` takes
    argmax d(i, n) over N(i) and ``fallback="drop"`` leaves the pair out.

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        positives: one of the rules above.
        negatives: one of the rules above.
        margin: used by ``within_margin`` only.
        within_margin: bounds "semihard" from above; "hardest" ignores it.
        fallback: "farthest" or "drop".
        distance: "sqeuclidean", "euclidean" or "cosine".
        ref_emb: candidates, [N, D]; the anchors themselves when None.
        ref_labels: integers, [N]; given exactly when ``ref_emb`` is.
        anchor_ids: integers, [M]; with ``ref_ids``, excludes the anchor's own copy from P(i).
        ref_ids: integers, [N].
        generator: unused by these rules.

    Returns:
        Triplets ``(anchor, positive, negative, d_ap, d_an)``, five [T] tensors in lexicographic
        order of (anchor, positive). Indices are int64; ``positive`` and ``negative`` count rows of
        the candidates. Distances are float64 and carry no gradient.

    Raises:
        KeyError: an unknown rule or fallback.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> t = select_triplets(x, torch.tensor([0, 0, 1, 1]), distance="euclidean")
        >>> torch.stack(t[:3], dim=1).tolist()
        [[0, 1, 3], [1, 0, 2], [2, 3, 1], [3, 2, 0]]
        >>> t.d_ap.tolist(), t.d_an.tolist()
        ([1.0, 1.0, 2.5, 2.5], [1.5, 2.0, 2.0, 1.5])

    "All" with "semihard" is the online selection of FaceNet (CVPR 2015), section 3.2; "hardest"
    with "hardest" is batch hard of Hermans et al. (2017), section 2.
    """
    self_mode = ref_emb is None
    candidates = embeddings if ref_emb is None else ref_emb
    y, z = _same_codes(labels, labels if ref_labels is None else ref_labels)
    choose_positives = _POSITIVE_RULES[positives]
    choose_negative = _NEGATIVE_RULES[negatives]
    bound = margin if within_margin else float("inf")

    found: list[tuple[int, int, int]] = []
    with torch.no_grad():
        d = pairwise_distance(embeddings, candidates, distance)
        z = z.to(d.device)
        for i in range(len(embeddings)):
            is_negative = z != y[i]
            is_positive = _positives_of(i, y[i], z, self_mode, anchor_ids, ref_ids)
            if not is_positive.any() or not is_negative.any():
                continue
            for p in choose_positives(d[i], is_positive):
                n = choose_negative(d[i], is_negative, float(d[i, p]), bound)
                if n is None:
                    n = _FALLBACKS[fallback](d[i], is_negative)
                if n is not None:
                    found.append((i, p, n))
        indices = torch.tensor(found, dtype=torch.int64, device=d.device).reshape(-1, 3)
        anchor, positive, negative = indices.unbind(1)
        return Triplets(anchor, positive, negative, d[anchor, positive], d[anchor, negative])


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

    With ``g(t) = d(a, p) - d(a, n) + margin``::

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
    d_ap = _distance(x[anchor], candidates[positive], distance)
    d_an = _distance(x[anchor], candidates[negative], distance)
    if swap:
        d_an = torch.minimum(d_an, _distance(candidates[positive], candidates[negative], distance))
    gap = d_ap - d_an + margin
    h = torch.logaddexp(gap, torch.zeros_like(gap)) if smooth else torch.relu(gap)
    if smooth and reduction == "mean_nonzero":
        reduction = "mean"  # softplus is positive, whatever it rounds to
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
        ref_emb: as in :func:`select_triplets`; it receives a gradient too.
        ref_labels: as in :func:`select_triplets`.
        anchor_ids: as in :func:`select_triplets`.
        ref_ids: as in :func:`select_triplets`.
        max_per_class: a promise that no anchor's class has more candidates; it changes no result.
        generator: as in :func:`select_triplets`.
        smooth: as in :func:`triplet_loss`.
        swap: as in :func:`triplet_loss`; selection does not know of it.
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

    ============  ===================
    ``triplets``  which triplets
    ============  ===================
    "all"         all
    "hard"        g <= 0
    "semihard"    0 < g <= margin
    "easy"        g > margin
    ============  ===================

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
    y, z = _same_codes(labels, labels if ref_labels is None else ref_labels)
    is_of_kind = _KINDS[triplets]
    d = pairwise_distance(embeddings, candidates, distance)
    z = z.to(d.device)
    poison = 0.0 * (embeddings.double().sum() + candidates.double().sum())
    found = [poison.reshape(1)[:0]]
    for i in range(len(embeddings)):
        is_negative = z != y[i]
        is_positive = _positives_of(i, y[i], z, ref_emb is None, anchor_ids, ref_ids)
        gap = (d[i, is_negative] - d[i, is_positive].unsqueeze(1)).flatten()
        v = margin - gap[is_of_kind(gap.detach(), margin)]
        found.append(torch.logaddexp(v, torch.zeros_like(v)) if smooth else torch.relu(v))
    if smooth and reduction == "mean_nonzero":
        reduction = "mean"  # softplus is positive, whatever it rounds to
    return _REDUCTIONS[reduction](torch.cat(found)) + poison


# --- distances --------------------------------------------------------------------------------


def _distance(x: Tensor, y: Tensor, distance: str) -> Tensor:
    """Distance along the last dimension of two float64 tensors that broadcast: [..., D] → [...]."""
    if distance == "cosine":
        # 1 - cos(x, y) = |x/|x| - y/|y||² / 2, which is exactly 0 for equal rows.
        x, x_is_zero = _unit_rows(x)
        y, y_is_zero = _unit_rows(y)
        half = 0.5 * (x - y).square().sum(-1)
        return torch.where(x_is_zero | y_is_zero, torch.ones_like(half), half)
    squared = (x - y).square().sum(-1)
    return _sqrt(squared) if distance == "euclidean" else squared


def _sqrt(squared: Tensor) -> Tensor:
    """Square root with gradient 0 at 0; NaN stays NaN."""
    at_zero = squared == 0
    return torch.where(at_zero, 0.0, torch.where(at_zero, 1.0, squared).sqrt())


def _unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows divided by their norm, and which rows are zero (those stay zero)."""
    norm = _sqrt(x.square().sum(-1))
    is_zero = norm == 0
    return x / torch.where(is_zero, 1.0, norm).unsqueeze(-1), is_zero


# --- selection: `d` is one anchor's row of distances [N], `mask` says which candidates count ------


def _same_codes(labels: Tensor, candidate_labels: Tensor) -> tuple[list[int], Tensor]:
    """Small codes, equal where the labels are equal, whatever their dtypes and devices."""
    y, z = labels.tolist(), candidate_labels.tolist()
    codes = {label: code for code, label in enumerate(dict.fromkeys(y + z))}
    return [codes[label] for label in y], torch.tensor(
        [codes[label] for label in z], dtype=torch.int64
    )


def _positives_of(
    i: int,
    code: int,
    codes: Tensor,
    self_mode: bool,
    anchor_ids: Tensor | None,
    ref_ids: Tensor | None,
) -> Tensor:
    """Which candidates are in P(i)."""
    is_positive = codes == code
    if self_mode:
        is_positive[i] = False
    elif anchor_ids is not None and ref_ids is not None:
        is_positive &= (ref_ids != anchor_ids[i]).to(codes.device)
    return is_positive


def _first_min(d: Tensor, mask: Tensor) -> int | None:
    """Index of the smallest masked entry, the lowest index among equals; None of an empty mask."""
    indices = mask.nonzero().flatten()
    if len(indices) == 0:
        return None
    values = d[indices]
    at_min = indices[values == values.min()]
    # NaN equals nothing: any candidate will do, the loss is poisoned anyway.
    return int(at_min[0] if len(at_min) else indices[0])


def _first_max(d: Tensor, mask: Tensor) -> int | None:
    """Index of the largest masked entry, the lowest index among equals; None of an empty mask."""
    return _first_min(-d, mask)


def _all_positives(d: Tensor, mask: Tensor) -> list[int]:
    return [int(p) for p in mask.nonzero()]


def _hardest_positive(d: Tensor, mask: Tensor) -> list[int]:
    p = _first_max(d, mask)
    return [] if p is None else [p]


def _easiest_positive(d: Tensor, mask: Tensor) -> list[int]:
    p = _first_min(d, mask)
    return [] if p is None else [p]


def _semihard_negative(d: Tensor, mask: Tensor, d_ap: float, bound: float) -> int | None:
    return _first_min(d, mask & (d > d_ap) & (d < d_ap + bound))


def _hardest_negative(d: Tensor, mask: Tensor, d_ap: float, bound: float) -> int | None:
    return _first_min(d, mask)


def _drop(d: Tensor, mask: Tensor) -> int | None:
    return None


_POSITIVE_RULES: dict[str, Callable[[Tensor, Tensor], list[int]]] = {
    "all": _all_positives,
    "hardest": _hardest_positive,
    "easiest": _easiest_positive,
}
_NEGATIVE_RULES: dict[str, Callable[[Tensor, Tensor, float, float], int | None]] = {
    "semihard": _semihard_negative,
    "hardest": _hardest_negative,
}
_FALLBACKS: dict[str, Callable[[Tensor, Tensor], int | None]] = {
    "farthest": _first_max,
    "drop": _drop,
}


# --- the kinds of triplets, by the gap d(a, n) - d(a, p) ----------------------------------------


_KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "all": lambda gap, margin: torch.ones_like(gap, dtype=torch.bool),
    "hard": lambda gap, margin: gap <= 0,
    "semihard": lambda gap, margin: (gap > 0) & (gap <= margin),
    "easy": lambda gap, margin: gap > margin,
}


# --- reductions of h(t), [T] -----------------------------------------------------------------


def _mean(h: Tensor) -> Tensor:
    return h.sum() / max(h.numel(), 1)


def _mean_nonzero(h: Tensor) -> Tensor:
    return h.sum() / max(int((h > 0).sum()), 1)


def _sum(h: Tensor) -> Tensor:
    return h.sum()


def _none(h: Tensor) -> Tensor:
    return h


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "mean_nonzero": _mean_nonzero,
    "sum": _sum,
    "none": _none,
}
