"""triplet_margin_loss is the loss over every triplet of a kind, which the oracle lists."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    DISTANCES,
    ROWS,
    SetThreads,
    make_batch,
    make_cloud,
    make_labels,
    pair_masks,
    random_like,
)
from tolerances import DTYPES, assert_gradient_close, assert_loss_close, result_dtype
from torch import Tensor

from facenet_ext import reference
from facenet_ext.functional import pairwise_squared_distance, triplet_margin_loss
from facenet_ext.losses import TripletMarginLoss

KINDS = ("all", "hard", "semihard", "easy")
REDUCTIONS = ("mean_nonzero", "mean", "sum")
CLOUDS = ("offset", "far", "collapsed", "duplicates", "integers", "zeros")


def check(
    x: Tensor, y: Tensor, margin: float = 0.2, *, ref_emb: Tensor | None = None, **options: Any
) -> None:
    """Loss and gradients are the oracle's."""
    given = [e.detach() for e in (x, ref_emb) if e is not None]
    inputs = [e.clone().requires_grad_() for e in given]
    exact = [e.double().clone().requires_grad_() for e in given]

    def loss(of: Any, tensors: list[Tensor]) -> Tensor:
        bank = {"ref_emb": tensors[1]} if len(tensors) == 2 else {}
        result: Tensor = of(tensors[0], y, margin, **bank, **options)
        return result

    actual, expected = (
        loss(triplet_margin_loss, inputs),
        loss(reference.triplet_margin_loss, exact),
    )
    d = reference.pairwise_distance(x, ref_emb, options.get("distance", "sqeuclidean"))
    largest = abs(margin) + 2 * float(d.max()) if d.numel() else 0.0
    triplets = d.numel() * d.shape[1] if options.get("reduction") == "sum" else 1
    assert_loss_close(actual, expected, x.dtype, largest * triplets)
    gradients = torch.autograd.grad(actual, inputs)
    for gradient, oracle in zip(gradients, torch.autograd.grad(expected, exact), strict=True):
        assert_gradient_close(gradient, oracle, x.dtype)


# --- golden values -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "total", "active", "counted"),
    # Anchors 0 and 1 have d_ap 1 and negatives at 1, 1.5 and 2, 0.5; 2 and 3 have d_ap 2.5 and
    # negatives at 1, 2 and 1.5, 0.5. Margin 0.5: the hinges are .5, 0, 0, 1; 2, 1, 1.5, 2.5.
    [("all", 8.5, 6, 8), ("hard", 8.5, 6, 6), ("semihard", 0.0, 0, 1), ("easy", 0.0, 0, 1)],
)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_golden_values(
    kind: str, total: float, active: int, counted: int, reduction: str, dtype: torch.dtype
) -> None:
    x, y = torch.tensor([[0.0], [1.0], [-1.0], [1.5]], dtype=dtype), torch.tensor([0, 0, 1, 1])
    count = {"mean_nonzero": active, "mean": counted, "sum": 1}[reduction]
    options = {"triplets": kind, "distance": "euclidean", "reduction": reduction}
    expected = torch.tensor(total, dtype=result_dtype(dtype)) / max(count, 1)
    assert torch.equal(triplet_margin_loss(x, y, 0.5, **options), expected)


# --- the oracle's, over a grid -------------------------------------------------------------------


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("layout", ["pairs", "quads", "uneven", "one_class", "all_different"])
def test_every_number_of_rows(n: int, layout: str) -> None:
    check(*make_batch(layout, n, 33))


@pytest.mark.parametrize("dim", COLUMNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_columns(dim: int, dtype: torch.dtype) -> None:
    check(*make_batch("quads", 97, dim, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smooth", [False, True])
def test_every_loss(
    smooth: bool, kind: str, reduction: str, distance: str, dtype: torch.dtype
) -> None:
    x, y = make_batch("quads", 49, 33, dtype)
    options = {"triplets": kind, "distance": distance, "reduction": reduction, "smooth": smooth}
    check(x, y, 0.5, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("with_ids", [False, True])
def test_every_loss_against_a_bank(with_ids: bool, smooth: bool, kind: str) -> None:
    x, y = make_batch("uneven", 49, 19)
    c, z = make_batch("uneven", 141, 19, seed=1)
    c[:20], z[:20] = x[:20], y[:20]
    ids = {"anchor_ids": torch.arange(49), "ref_ids": torch.arange(141)} if with_ids else {}
    check(x, y, 0.5, ref_emb=c, ref_labels=z, triplets=kind, smooth=smooth, **ids)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_bank_of_every_dtype(distance: str, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 97, 33, dtype)
    c, z = make_batch("quads", 49, 33, dtype, seed=1)
    check(x, y, ref_emb=c, ref_labels=z, distance=distance)


@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 5), (5, 0), (1, 1), (1, 2), (2, 1)])
def test_tiny_banks(m: int, n: int) -> None:
    x, y = make_batch("pairs", m, 3)
    c, z = make_batch("pairs", n, 3, seed=1)
    check(x, y, ref_emb=c, ref_labels=z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_difficult_clouds(cloud: str, kind: str, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 97, 65, dtype, cloud)
    margin = 1e-7 if cloud == "collapsed" else 0.5
    check(x, y, margin, triplets=kind)


@pytest.mark.parametrize(
    ("dtype", "cloud"), [(torch.float64, "gaussian"), (torch.float32, "integers")]
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [240, 141])
def test_more_than_a_hundred_positives_per_anchor(
    n: int, kind: str, dtype: torch.dtype, cloud: str
) -> None:
    """Of millions of triplets some are within a float32's rounding of the margin: hence these."""
    x, y = make_batch("halves", n, 33, dtype, cloud)
    check(x, y, 0.5, triplets=kind, reduction="mean")


@pytest.mark.parametrize("margin", [-0.5, 0.0, 3.0, 100.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_margin(kind: str, reduction: str, margin: float) -> None:
    """On integers, where every gap is exact and many are 0 or the margin."""
    x, y = make_batch("quads", 49, 3, torch.float32, "integers")
    check(x, y, margin, triplets=kind, reduction=reduction)


def test_a_loss_that_is_small_beside_the_distances_keeps_its_digits() -> None:
    """Positives less negatives come to less than a hundred-thousandth of either."""
    x, y = torch.nn.functional.normalize(make_cloud("gaussian", 700, 64)), torch.arange(700) % 7
    d, margin = pairwise_squared_distance(x).double(), 1e-5
    is_positive, is_negative = pair_masks(y)
    hinges = []
    for i in range(len(x)):
        gap = d[i, is_negative[i]] - d[i, is_positive[i]].unsqueeze(1)
        hinges.append(margin - gap[(gap > 0) & (gap < margin)])
    expected = torch.cat(hinges).mean()
    actual = triplet_margin_loss(x, y, margin, triplets="semihard")
    assert_loss_close(actual, expected, torch.float32, float(expected))


@pytest.mark.parametrize("kind", ["semihard", "easy"])
def test_a_positive_that_is_in_no_triplet_may_be_beyond_the_largest_number(kind: str) -> None:
    x = torch.tensor([[0.0], [1.0], [1e20], [1.5], [1.75]])
    check(x, torch.tensor([0, 0, 0, 1, 1]), 5.0, triplets=kind)


# --- what it is in terms of the other losses -----------------------------------------------------


def test_the_kinds_are_parts_of_all() -> None:
    x, y = make_batch("uneven", 97, 19, torch.float64)
    options: dict[str, Any] = {"reduction": "sum", "smooth": True}
    parts = [triplet_margin_loss(x, y, 0.5, triplets=kind, **options) for kind in KINDS]
    torch.testing.assert_close(parts[0], torch.stack(parts[1:]).sum(), rtol=1e-12, atol=0.0)


def test_easy_triplets_have_no_hinge() -> None:
    x, y = make_batch("quads", 49, 33)
    x.requires_grad_()
    for reduction in REDUCTIONS:
        loss = triplet_margin_loss(x, y, triplets="easy", reduction=reduction)
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == 0.0
        assert not gradient.any()


def test_far_rows_make_softplus_linear_not_infinite() -> None:
    x, y = make_batch("pairs", 8, 3)
    check(1e4 * x, y, smooth=True)


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_gradcheck(distance: str, kind: str, smooth: bool) -> None:
    x, y = make_batch("pairs", 6, 3, torch.float64)
    c, z = make_batch("pairs", 7, 3, torch.float64, seed=1)
    options: dict[str, Any] = {"triplets": kind, "distance": distance, "smooth": smooth}

    def loss(x: Tensor, c: Tensor | None = None) -> Tensor:
        bank = {} if c is None else {"ref_emb": c, "ref_labels": z}
        return triplet_margin_loss(x, y, 0.7, **bank, **options)

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),))
    assert torch.autograd.gradcheck(loss, (x, c.requires_grad_()))


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_a_gradient_of_one_side_alone(wanted: tuple[bool, bool]) -> None:
    x, y = make_batch("quads", 49, 33)
    c, z = make_batch("quads", 97, 33, seed=1)

    def gradients(*sides: bool) -> list[Tensor | None]:
        a, b = (t.clone().requires_grad_(side) for t, side in zip((x, c), sides, strict=True))
        triplet_margin_loss(a, y, ref_emb=b, ref_labels=z).backward()
        return [a.grad, b.grad]

    both = gradients(True, True)
    for one, other, side in zip(gradients(*wanted), both, wanted, strict=True):
        assert (one is not None) == side
        assert one is None or torch.equal(one, other)


# --- nothing there, non-finite -------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_without_triplets_loss_and_gradient_are_zero(n: int, reduction: str) -> None:
    for labels in (torch.zeros(n, dtype=torch.int64), torch.arange(n)):
        x = make_cloud("gaussian", n, 3).requires_grad_()
        loss = triplet_margin_loss(x, labels, reduction=reduction)
        loss.backward()
        assert loss.item() == 0.0
        assert x.grad is not None
        assert not x.grad.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_embedding_that_is_not_finite_makes_the_loss_so(
    dtype: torch.dtype, kind: str, value: float
) -> None:
    x, y = make_batch("quads", 49, 5, dtype)
    x[48, 2] = value
    x.requires_grad_()
    loss = triplet_margin_loss(x, y, triplets=kind)
    loss.backward()
    assert loss.isnan()
    assert x.grad is not None
    assert x.grad.isnan().any()


# --- determinism, memory -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("smooth", [False, True])
def test_any_number_of_threads_gives_the_same_bits(
    set_threads: SetThreads, kind: str, smooth: bool
) -> None:
    results = []
    for threads in 1, 2, 3:
        set_threads(threads)
        x, y = make_batch("quads", 500, 65)
        x.requires_grad_()
        loss = triplet_margin_loss(x, y, triplets=kind, smooth=smooth)
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_the_order_of_the_rows_does_not_show() -> None:
    x, y = make_batch("uneven", 97, 19, torch.float64)
    order = random_like(y.double(), torch.rand).argsort()
    for kind in KINDS:
        before, after = (
            triplet_margin_loss(a, b, triplets=kind, smooth=True)
            for a, b in ((x, y), (x[order], y[order]))
        )
        torch.testing.assert_close(before, after, rtol=1e-12, atol=0.0)


def test_non_contiguous_inputs() -> None:
    wide, labels = make_cloud("gaussian", 96, 66), make_labels("quads", 192)[::2]
    for x in (wide[:, ::2], wide.T, wide[5:50, 1:8], wide[:, :1].expand(96, 5)):
        check(x, labels[: len(x)])


# --- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_is_the_function(kind: str) -> None:
    x, y = make_batch("quads", 49, 33)
    options: dict[str, Any] = {
        "triplets": kind,
        "distance": "euclidean",
        "smooth": True,
        "reduction": "mean",
        "max_per_class": 4,
    }
    module = TripletMarginLoss(0.3, **options)
    assert torch.equal(module(x, y), triplet_margin_loss(x, y, 0.3, **options))
    assert repr(module) == (
        f"TripletMarginLoss(margin=0.3, triplets={kind!r}, distance='euclidean', smooth=True, "
        "reduction='mean', max_per_class=4)"
    )


def test_listed_triplets_are_not_a_reduction() -> None:
    x, y = make_batch("quads", 8, 3)
    message = "reduction: expected one of 'mean', 'mean_nonzero', 'sum', got 'none'"
    with pytest.raises(ValueError, match=message):
        triplet_margin_loss(x, y, reduction="none")
    with pytest.raises(ValueError, match=message):
        TripletMarginLoss(reduction="none")


def test_a_class_beyond_the_bound() -> None:
    x, y = make_batch("quads", 49, 33)
    assert torch.equal(triplet_margin_loss(x, y, max_per_class=4), triplet_margin_loss(x, y))
