"""triplet_loss of given triplets is the oracle's, in value and in gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    DISTANCES,
    REDUCTIONS,
    SetThreads,
    assert_loss_and_gradients,
    made_on_cpu,
    make_batch,
    make_cloud,
)
from tolerances import DTYPES, result_dtype

from facenet_ext import reference
from facenet_ext.functional import select_triplets, triplet_loss


@made_on_cpu
def random_triplets(m: int, n: int, count: int) -> tuple[torch.Tensor, ...]:
    """Any indices: repeats, a == p and p == n are all allowed."""
    generator = torch.Generator().manual_seed(m + n + count)
    return tuple(torch.randint(0, high, (count,), generator=generator) for high in (m, n, n))


def check(
    x: torch.Tensor,
    triplets: Any,
    margin: float = 0.2,
    ref_emb: torch.Tensor | None = None,
    **options: Any,
) -> None:
    def loss(x: torch.Tensor, ref_emb: torch.Tensor | None = None) -> torch.Tensor:
        return triplet_loss(x, triplets, margin, ref_emb=ref_emb, **options)

    assert_loss_and_gradients(loss, triplets, margin, x, ref_emb, **options)


# --- the oracle's, over a grid -------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 8, 95, 1000])
@pytest.mark.parametrize("dim", COLUMNS)
@pytest.mark.parametrize("swap", [False, True])
def test_every_size(swap: bool, dim: int, count: int) -> None:
    check(make_cloud("gaussian", 97, dim), random_triplets(97, 97, count), swap=swap)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_every_option(
    swap: bool, smooth: bool, reduction: str, distance: str, dtype: torch.dtype
) -> None:
    x, t = make_cloud("gaussian", 49, 33, dtype), random_triplets(49, 49, 200)
    check(x, t, distance=distance, reduction=reduction, smooth=smooth, swap=swap)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("swap", [False, True])
def test_against_a_bank(swap: bool, reduction: str, distance: str, dtype: torch.dtype) -> None:
    x, c = make_cloud("gaussian", 49, 33, dtype), make_cloud("gaussian", 97, 33, dtype, seed=1)
    t = random_triplets(49, 97, 200)
    check(x, t, ref_emb=c, distance=distance, reduction=reduction, swap=swap)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize(
    "cloud", ["offset", "far", "steps", "collapsed", "tiny", "duplicates", "integers"]
)
@pytest.mark.parametrize("swap", [False, True])
def test_difficult_clouds(swap: bool, cloud: str, distance: str, dtype: torch.dtype) -> None:
    """A common offset or a collapsed cloud costs no digit: distances are direct differences."""
    x, t = make_cloud(cloud, 97, 65, dtype), random_triplets(97, 97, 300)
    check(x, t, distance=distance, swap=swap)


@pytest.mark.parametrize("margin", [-1.0, 0.0, 1.0, 100.0])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_every_margin(swap: bool, margin: float, smooth: bool) -> None:
    x, t = make_cloud("gaussian", 49, 17), random_triplets(49, 49, 100)
    check(x, t, margin, smooth=smooth, swap=swap)


@pytest.mark.parametrize("distance", DISTANCES)
def test_far_apart_softplus_neither_overflows_nor_vanishes(distance: str) -> None:
    x = 6.0 * make_cloud("gaussian", 20, 8)
    t = random_triplets(20, 20, 50)
    check(x, t, 40.0, smooth=True, distance=distance, reduction="sum")
    check(x, t, -5.0, smooth=True, distance=distance, reduction="sum")


def test_triplets_of_a_selection_and_bare_indices_are_the_same() -> None:
    x, y = make_batch("quads", 49, 17)
    t = select_triplets(x, y)
    loss = triplet_loss(x, t)
    assert torch.equal(loss, triplet_loss(x, tuple(t[:3])))
    assert torch.equal(loss, triplet_loss(x, list(t[:3])))
    assert torch.equal(loss, triplet_loss(x, tuple(index.to(torch.int32) for index in t[:3])))


def test_non_contiguous_inputs() -> None:
    wide = make_cloud("gaussian", 96, 66)
    for x in (wide[:, ::2], wide.T, wide[5:50, 1:8], wide[:, :1].expand(96, 5)):
        pairs = torch.stack(random_triplets(len(x), len(x), 60), dim=1)
        check(x, pairs.unbind(1))


# --- properties that are exact -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_are_at_exactly_zero(dtype: torch.dtype) -> None:
    """With the positive equal to the anchor, and the negative too, h is the margin itself."""
    x = make_cloud("far", 5, 129, dtype)
    x[1] = x[2] = x[0]
    t = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    for distance in DISTANCES:
        assert triplet_loss(x, t, 0.25, distance=distance).item() == 0.25


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gradient_is_zero_and_not_nan_at_equal_and_at_zero_rows(distance: str) -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    x.requires_grad_()
    t = torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([2, 4])
    loss = triplet_loss(x, t, 1.0, distance=distance)
    loss.backward()
    assert loss.item() == 1.0
    assert x.grad is not None
    assert not x.grad.any()


def test_a_zero_vector_is_at_cosine_distance_one() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-4.0, 3.0]], requires_grad=True)
    t = torch.tensor([1, 0]), torch.tensor([0, 1]), torch.tensor([2, 2])
    loss = triplet_loss(x, t, 0.5, distance="cosine", reduction="none")
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.5]))
    check(x.detach(), t, 0.5, distance="cosine")


def test_at_the_hinge_the_loss_and_the_gradient_are_zero() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    t = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    for reduction in REDUCTIONS:
        (gradient,) = torch.autograd.grad(triplet_loss(x, t, 8.0, reduction=reduction).sum(), x)
        assert not gradient.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bank", [False, True])
def test_no_triplets(reduction: str, dtype: torch.dtype, with_bank: bool) -> None:
    x = make_cloud("gaussian", 5, 3, dtype).requires_grad_()
    c = make_cloud("gaussian", 4, 3, dtype).requires_grad_() if with_bank else None
    empty = torch.zeros(0, dtype=torch.int64)
    loss = triplet_loss(x, (empty, empty, empty), reduction=reduction, ref_emb=c)
    assert loss.requires_grad
    assert loss.dtype == result_dtype(dtype)
    assert loss.shape == ((0,) if reduction == "none" else ())
    loss.sum().backward()
    assert loss.sum().item() == 0.0
    for leaf in (x, c):
        assert leaf is None or (leaf.grad is not None and not leaf.grad.any())


# --- non-finite, gradient mode, determinism ------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_a_non_finite_row_makes_the_loss_non_finite(
    swap: bool, smooth: bool, distance: str, row: int, value: float
) -> None:
    """As anchor, as positive and as negative, though an infinitely far negative has h = 0."""
    x = make_cloud("gaussian", 4, 9)
    x[row, 4] = value
    t = torch.tensor([0, 3]), torch.tensor([1, 3]), torch.tensor([2, 3])
    for reduction in ("mean", "mean_nonzero", "sum"):
        options: dict[str, Any] = {"smooth": smooth, "swap": swap, "reduction": reduction}
        loss = triplet_loss(x, t, distance=distance, **options)
        assert not loss.isfinite(), reduction


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_gradcheck(swap: bool, smooth: bool, reduction: str, distance: str) -> None:
    x = make_cloud("gaussian", 6, 3, torch.float64).requires_grad_()
    c = make_cloud("gaussian", 5, 3, torch.float64, seed=1).requires_grad_()
    t = random_triplets(6, 5, 12)

    options: dict[str, Any] = {"distance": distance, "smooth": smooth, "swap": swap}

    def loss(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return triplet_loss(x, t, 0.7, reduction=reduction, ref_emb=c, **options)

    assert torch.autograd.gradcheck(loss, (x, c))


@pytest.mark.parametrize("which", ["embeddings", "ref_emb", "neither"])
def test_only_what_wants_a_gradient_gets_one(which: str) -> None:
    x, c = make_cloud("gaussian", 9, 5), make_cloud("gaussian", 7, 5, seed=1)
    t = random_triplets(9, 7, 20)
    x.requires_grad_(which == "embeddings")
    c.requires_grad_(which == "ref_emb")
    loss = triplet_loss(x, t, 1.0, ref_emb=c)
    assert loss.requires_grad == (which != "neither")
    if which != "neither":
        leaf = x if which == "embeddings" else c
        (actual,) = torch.autograd.grad(loss, leaf)
        (expected,) = torch.autograd.grad(reference.triplet_loss(x, t, 1.0, ref_emb=c), leaf)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_bank_that_is_the_embeddings_gets_both_gradients() -> None:
    x, t = make_cloud("gaussian", 9, 5).requires_grad_(), random_triplets(9, 9, 20)
    (apart,) = torch.autograd.grad(triplet_loss(x, t, 1.0, ref_emb=x), x)
    (together,) = torch.autograd.grad(triplet_loss(x, t, 1.0), x)
    torch.testing.assert_close(apart, together)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("swap", [False, True])
def test_the_number_of_threads_does_not_change_a_bit(
    swap: bool, dtype: torch.dtype, set_threads: SetThreads
) -> None:
    x = make_cloud("gaussian", 500, 65, dtype).requires_grad_()
    t = random_triplets(500, 500, 20000)
    results = []
    for threads in (1, 2, 2, 3):
        set_threads(threads)
        loss = triplet_loss(x, t, 1.0, swap=swap)
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
