"""What is drawn: points in the plane, and what the library selects among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from facenet_ext import select_triplets, triplet_margin_loss

DISTANCE = "euclidean"  # so that the margin is a ring of that width
MARGIN = 0.5


def _from_polar(*points: tuple[float, float]) -> Tensor:
    """Rows ``[len(points), 2]`` at the given radii and angles in degrees."""
    radius, angle = torch.tensor(points, dtype=torch.float64).T
    angle = torch.deg2rad(angle)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


POSITIVES = _from_polar((0.45, 205), (0.93, 155), (1.22, 245))
NEGATIVES = _from_polar(
    (0.56, 30), (0.76, 85), (1.07, -25), (1.14, 48), (1.17, 108), (1.36, -62),
    (1.6, 12), (1.75, 68), (1.8, -32), (2.05, 38),
)  # fmt: skip
# The plane is one of many in 4 dimensions, of which distance-weighted draws make something.
ANCHOR = torch.zeros(1, 4, dtype=torch.float64)
CANDIDATES = torch.nn.functional.pad(torch.cat([POSITIVES, NEGATIVES]), (0, 2))
LABELS = torch.tensor([0] * len(POSITIVES) + [1] * len(NEGATIVES))
ALL = list(range(len(CANDIDATES)))

MIDDLE = 1
"""The positive whose negatives are shown: closer than most negatives, not than all."""


def select(rows: Sequence[int] = ALL, anchors: int = 1, **rule: str) -> list[tuple[int, int]]:
    """The (positive, negative) that the library selects for the anchor, among some of the points.

    Of several copies of the anchor, each draws on its own where the rule draws.
    """
    triplets = select_triplets(
        ANCHOR.expand(anchors, -1),
        torch.zeros(anchors, dtype=torch.int64),
        margin=MARGIN,
        distance=DISTANCE,
        ref_emb=CANDIDATES[rows],
        ref_labels=LABELS[rows],
        generator=torch.Generator().manual_seed(0),
        **rule,
    )
    selected = zip(triplets.positive.tolist(), triplets.negative.tolist(), strict=True)
    return [(rows[p], rows[n]) for p, n in selected]


def shares(rule: str, anchors: int) -> dict[int, float]:
    """How often each point is selected as the middle positive's negative."""
    chosen = [n for p, n in select(anchors=anchors, negatives=rule) if p == MIDDLE]
    return {n: count / len(chosen) for n, count in sorted(Counter(chosen).items())}


def counted(kind: str, *, smooth: bool) -> list[int]:
    """The negatives that form a triplet of the kind with the middle positive and are pushed.

    Softplus pushes in every triplet that counts, the hinge only inside the margin.
    """
    rows = [MIDDLE, *ALL[len(POSITIVES) :]]
    candidates = CANDIDATES[rows].requires_grad_()
    triplet_margin_loss(
        ANCHOR,
        torch.tensor([0]),
        MARGIN,
        triplets=kind,
        distance=DISTANCE,
        smooth=smooth,
        ref_emb=candidates,
        ref_labels=LABELS[rows],
    ).backward()
    assert candidates.grad is not None
    pushed = candidates.grad.ne(0).any(1).tolist()
    return [row for row, is_pushed in zip(rows[1:], pushed[1:], strict=True) if is_pushed]
