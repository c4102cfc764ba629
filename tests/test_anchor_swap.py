"""Anchor swap counts a negative at the smaller of d(a, n) and d(p, n), as torch's own loss does.

That the operator is the oracle's is in test_triplet_loss.py; here is what swap alone claims.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import (
    DISTANCES,
    NEGATIVES,
    POSITIVES,
    REDUCTIONS,
    assert_loss_and_gradients,
    loss_and_gradient,
    made_on_cpu,
    make_batch,
    make_cloud,
)
from tolerances import DTYPES
from torch.nn import TripletMarginLoss, TripletMarginWithDistanceLoss
from torch.nn.functional import cosine_similarity

from facenet_ext import reference
from facenet_ext.functional import mined_triplet_loss, select_triplets, triplet_loss

TORCH_DISTANCES = {
    "sqeuclidean": lambda x, y: (x - y).square().sum(1),
    "euclidean": lambda x, y: (x - y).norm(dim=1),
    "cosine": lambda x, y: 1 - cosine_similarity(x, y),
}


@made_on_cpu
def distinct_triplets(n: int, count: int) -> tuple[torch.Tensor, ...]:
    """Three different rows each: where two are one row, torch's gradients are not defined."""
    generator = torch.Generator().manual_seed(n + count)
    rows = torch.stack([torch.randperm(n, generator=generator)[:3] for _ in range(count)])
    return tuple(rows.T.contiguous())


# --- torch's -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("cloud", ["gaussian", "integers"])
def test_it_is_torchs_triplet_margin_loss(cloud: str, reduction: str) -> None:
    """With eps=0: torch adds its eps, 1e-6, to every difference of two coordinates."""
    x, (a, p, n) = make_cloud(cloud, 40, 9, torch.float64), distinct_triplets(40, 200)
    torchs = TripletMarginLoss(margin=0.7, swap=True, eps=0.0, reduction=reduction)
    expected = loss_and_gradient(lambda x: torchs(x[a], x[p], x[n]), x)
    options: dict[str, Any] = {"distance": "euclidean", "reduction": reduction, "swap": True}
    actual = loss_and_gradient(lambda x: triplet_loss(x, (a, p, n), 0.7, **options), x)
    torch.testing.assert_close(actual, expected)
    unswapped = triplet_loss(x, (a, p, n), 0.7, distance="euclidean", reduction="sum")
    assert unswapped < actual[0].sum() * (len(a) if reduction == "mean" else 1)


def test_torchs_default_eps_changes_the_loss_by_no_more_than_it_moves_a_point() -> None:
    """A distance by up to 1e-6 times the root of the number of columns; h is of two of them."""
    x, (a, p, n) = make_cloud("gaussian", 40, 9, torch.float64), distinct_triplets(40, 200)
    torchs = TripletMarginLoss(margin=0.7, swap=True)(x[a], x[p], x[n])
    ours = triplet_loss(x, (a, p, n), 0.7, distance="euclidean", swap=True)
    assert abs(torchs - ours) <= 2 * 1e-6 * 9**0.5


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("cloud", ["gaussian", "integers"])
def test_it_is_torchs_loss_of_any_distance(cloud: str, distance: str) -> None:
    x, (a, p, n) = make_cloud(cloud, 40, 9, torch.float64), distinct_triplets(40, 200)
    function = TORCH_DISTANCES[distance]
    torchs = TripletMarginWithDistanceLoss(distance_function=function, margin=0.7, swap=True)
    expected = loss_and_gradient(lambda x: torchs(x[a], x[p], x[n]), x)
    options: dict[str, Any] = {"distance": distance, "swap": True}
    actual = loss_and_gradient(lambda x: triplet_loss(x, (a, p, n), 0.7, **options), x)
    torch.testing.assert_close(actual, expected)


# --- ties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("with_bank", [False, True])
def test_at_a_tie_half_the_gradient_goes_to_each(
    with_bank: bool, distance: str, dtype: torch.dtype
) -> None:
    """Distances that are exact, and often equal."""
    x = make_cloud("axes" if distance == "cosine" else "integers", 60, 3, dtype)
    c = make_cloud("axes" if distance == "cosine" else "integers", 60, 3, dtype, seed=1)
    t = distinct_triplets(60, 600)
    candidates = c if with_bank else x
    d_an = reference.pairwise_distance(x, candidates, distance)[t[0], t[2]]
    d_pn = reference.pairwise_distance(candidates, None, distance)[t[1], t[2]]
    assert (d_an == d_pn).sum() > 20
    options: dict[str, Any] = {"distance": distance, "swap": True}

    def loss(x: torch.Tensor, ref_emb: torch.Tensor | None = None) -> torch.Tensor:
        return triplet_loss(x, t, 1.0, ref_emb=ref_emb, **options)

    assert_loss_and_gradients(loss, t, 1.0, x, c if with_bank else None, **options)


def test_where_the_anchor_is_closer_swap_changes_no_bit() -> None:
    x, t = make_cloud("gaussian", 40, 9), distinct_triplets(40, 200)
    d = reference.pairwise_distance(x)
    closer = d[t[0], t[2]] < d[t[1], t[2]]
    t = tuple(index[closer] for index in t)
    with_swap = loss_and_gradient(lambda x: triplet_loss(x, t, swap=True), x)
    without = loss_and_gradient(lambda x: triplet_loss(x, t), x)
    assert torch.equal(with_swap[0], without[0])
    torch.testing.assert_close(with_swap[1], without[1], rtol=0, atol=0)


def test_where_the_positive_is_closer_anchor_and_positive_change_places() -> None:
    x, (a, p, n) = make_cloud("gaussian", 40, 9), distinct_triplets(40, 200)
    d = reference.pairwise_distance(x)
    closer = d[p, n] < d[a, n]
    a, p, n = a[closer], p[closer], n[closer]
    swapped = loss_and_gradient(lambda x: triplet_loss(x, (a, p, n), swap=True), x)
    exchanged = loss_and_gradient(lambda x: triplet_loss(x, (p, a, n)), x)
    torch.testing.assert_close(swapped, exchanged)


# --- the mined loss, which is not fused with it --------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("with_bank", [False, True])
def test_the_mined_loss_is_that_of_the_selected_triplets(
    with_bank: bool, smooth: bool, reduction: str
) -> None:
    x, y = make_batch("quads", 49, 33)
    c, z = make_batch("quads", 97, 33, seed=1)
    bank: dict[str, Any] = {"ref_labels": z} if with_bank else {}
    options: dict[str, Any] = {"smooth": smooth, "reduction": reduction, "swap": True}
    t = select_triplets(x, y, ref_emb=c if with_bank else None, **bank)

    def loss(x: torch.Tensor, ref_emb: torch.Tensor | None = None) -> torch.Tensor:
        return mined_triplet_loss(x, y, 0.3, ref_emb=ref_emb, **bank, **options)

    assert_loss_and_gradients(loss, t, 0.3, x, c if with_bank else None, **options)


@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_mined_loss_of_every_rule_is_the_oracles(positives: str, negatives: str) -> None:
    x, y = make_batch("quads", 49, 7, torch.float64)
    options: dict[str, Any] = {"positives": positives, "negatives": negatives, "swap": True}
    expected = loss_and_gradient(lambda x: reference.mined_triplet_loss(x, y, **options), x)
    actual = loss_and_gradient(lambda x: mined_triplet_loss(x, y, **options), x)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero", "sum"])
@pytest.mark.parametrize("layout", ["quads", "one_class"])
def test_a_non_finite_row_makes_the_mined_loss_non_finite(layout: str, reduction: str) -> None:
    """Though comparisons with NaN select no triplet, and one class has none."""
    x, y = make_batch(layout, 12, 5)
    x[7, 2] = torch.nan
    x.requires_grad_()
    loss = mined_triplet_loss(x, y, fallback="drop", reduction=reduction, swap=True)
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.isnan()
    assert gradient.isnan().any()
