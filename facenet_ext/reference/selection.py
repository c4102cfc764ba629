"""Which triplets a rule selects."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from facenet_ext._random import draw_seed
from facenet_ext._types import Triplets
from facenet_ext.reference.distances import pairwise_distance
from facenet_ext.reference.draws import RANDOM_RULES, RandomOptions, draws


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
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """Select (anchor, positive, negative) triplets by rule.

    For each anchor i with at least one positive and one negative, ``positives`` chooses p:

    | ``positives`` | which p |
    |---|---|
    | ``"all"`` | every p in P(i) |
    | ``"hardest"`` | argmax d(i, p) over P(i), one per anchor |
    | ``"easiest"`` | argmin d(i, p) over P(i), one per anchor |

    and for each (i, p) ``negatives`` chooses n:

    | ``negatives`` | which n |
    |---|---|
    | ``"semihard"`` | argmin d(i, n) over n in N(i) with d(i, n) > d(i, p), strictly |
    | ``"hardest"`` | argmin d(i, n) over N(i) |

    With ``within_margin`` a semi-hard n must also have d(i, n) < d(i, p) + margin, strictly.
    Random rules draw n:

    | ``negatives`` | which n |
    |---|---|
    | ``"random_semihard"`` | uniform over d(i, p) < d(i, n) < d(i, p) + margin |
    | ``"random_violating"`` | uniform over d(i, n) < d(i, p) + margin |
    | ``"distance_weighted"`` | in proportion to 1 / q(d), with Euclidean d < nonzero_loss_cutoff |

    Ties go to the lowest index, for p and for n. When no n qualifies, ``fallback="farthest"`` takes
    argmax d(i, n) over N(i) and ``fallback="drop"`` leaves the pair out. Random rules always drop.

    Args:
        embeddings: anchors, [M, D].
        labels: integers, [M].
        positives: one of the rules above.
        negatives: one of the rules above.
        margin: used by ``within_margin`` and by random rules.
        within_margin: bounds "semihard" from above; other rules ignore it.
        fallback: "farthest" or "drop".
        distance: "sqeuclidean", "euclidean" or "cosine".
        cutoff: "distance_weighted" weighs smaller distances as this one.
        nonzero_loss_cutoff: "distance_weighted" draws from distances below this one; at most 2.
        ref_emb: candidates, [N, D]; the anchors themselves when None.
        ref_labels: integers, [N]; given exactly when ``ref_emb`` is.
        anchor_ids: integers, [M]; with ``ref_ids``, excludes the anchor's own copy from P(i).
        ref_ids: integers, [N].
        generator: gives random rules their seed; the device's default generator when None.

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
    with "hardest" is batch hard of Hermans et al. (2017), section 2. "distance_weighted" is from
    section 4 of Wu et al. (2017).
    """
    self_mode = ref_emb is None
    candidates = embeddings if ref_emb is None else ref_emb
    y, z = same_codes(labels, labels if ref_labels is None else ref_labels)
    choose_positives = _POSITIVE_RULES[positives]
    bound = margin if within_margin else float("inf")
    options = RandomOptions(margin, distance, embeddings.shape[1], cutoff, nonzero_loss_cutoff)
    seed = draw_seed(negatives, generator, embeddings.device)

    selected: list[tuple[int, int, int]] = []
    with torch.no_grad():
        d = pairwise_distance(embeddings, candidates, distance)
        z = z.to(d.device)
        for i in range(len(embeddings)):
            is_negative = z != y[i]
            is_positive = positives_of(i, y[i], z, self_mode, anchor_ids, ref_ids)
            if not is_positive.any() or not is_negative.any():
                continue
            for p in choose_positives(d[i], is_positive):
                d_ap = float(d[i, p])
                if seed is not None:
                    words = draws(int(seed), i, p, len(candidates)).to(d.device)
                    priority = RANDOM_RULES[negatives](d[i], d_ap, words, options)
                    chosen = _first_min(priority, is_negative & priority.isfinite())
                else:
                    chosen = _NEGATIVE_RULES[negatives](d[i], is_negative, d_ap, bound)
                    chosen = chosen or _FALLBACKS[fallback](d[i], is_negative)
                selected += [(i, p, n) for n in chosen]
        indices = torch.tensor(selected, dtype=torch.int64, device=d.device).reshape(-1, 3)
        anchor, positive, negative = indices.unbind(1)
        return Triplets(anchor, positive, negative, d[anchor, positive], d[anchor, negative])


# --- selection: `d` is one anchor's row of distances [N], `mask` says which candidates count ------


def same_codes(labels: Tensor, candidate_labels: Tensor) -> tuple[list[int], Tensor]:
    """Small codes, equal where the labels are equal, whatever their dtypes and devices."""
    y, z = labels.tolist(), candidate_labels.tolist()
    codes = {label: code for code, label in enumerate(dict.fromkeys(y + z))}
    return [codes[label] for label in y], torch.tensor(
        [codes[label] for label in z], dtype=torch.int64
    )


def positives_of(
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


def _first_min(d: Tensor, mask: Tensor) -> list[int]:
    """Index of the smallest masked entry, the lowest of equal ones; [] without masked entries."""
    indices = mask.nonzero().flatten()
    if len(indices) == 0:
        return []
    values = d[indices]
    at_min = indices[values == values.min()]
    # The minimum is NaN, which equals nothing. Any candidate will do: the loss is NaN anyway.
    return [int(at_min[0] if len(at_min) else indices[0])]


def _first_max(d: Tensor, mask: Tensor) -> list[int]:
    """Index of the largest masked entry, the lowest of equal ones; [] without masked entries."""
    return _first_min(-d, mask)


_POSITIVE_RULES: dict[str, Callable[[Tensor, Tensor], list[int]]] = {
    "all": lambda d, mask: mask.nonzero().flatten().tolist(),
    "hardest": _first_max,
    "easiest": _first_min,
}
_NEGATIVE_RULES: dict[str, Callable[[Tensor, Tensor, float, float], list[int]]] = {
    "semihard": lambda d, mask, d_ap, end: _first_min(d, mask & (d > d_ap) & (d < d_ap + end)),
    "hardest": lambda d, mask, d_ap, end: _first_min(d, mask),
}
_FALLBACKS: dict[str, Callable[[Tensor, Tensor], list[int]]] = {
    "farthest": _first_max,
    "drop": lambda d, mask: [],
}
