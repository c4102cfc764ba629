"""pairwise_squared_distance is the oracle's, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from helpers import COLUMNS, ROWS, SetThreads, make_cloud, random_like
from tolerances import (
    DTYPES,
    assert_distances_close,
    assert_gradient_close,
    eps,
    result_dtype,
)

from facenet_ext import reference
from facenet_ext.functional import pairwise_squared_distance

CLOUDS = (
    "gaussian",
    "integers",
    "duplicates",
    "offset",
    "far",
    "steps",
    "collapsed",
    "tiny",
    "zeros",
)
SHAPES = [(m, n, d) for m, n in zip(ROWS, ROWS[3:] + ROWS[:3], strict=True) for d in (1, 128)]
SHAPES += [(49, 97, d) for d in COLUMNS]


@pytest.mark.parametrize(("m", "n", "dim"), SHAPES)
def test_two_sets_of_rows(m: int, n: int, dim: int) -> None:
    x, y = make_cloud("gaussian", m, dim), make_cloud("gaussian", n, dim, seed=1)
    d = pairwise_squared_distance(x, y)
    assert d.shape == (m, n)
    assert_distances_close(d, reference.pairwise_squared_distance(x, y), x.dtype)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("dim", [3, 129])
def test_one_set_of_rows(n: int, dim: int) -> None:
    x = make_cloud("gaussian", n, dim)
    d = pairwise_squared_distance(x)
    assert d.shape == (n, n)
    assert_distances_close(d, reference.pairwise_squared_distance(x), x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_dtype_and_cloud(dtype: torch.dtype, cloud: str) -> None:
    """Also far from the origin and for rows almost equal: no cancellation loses the distance."""
    x = make_cloud(cloud, 97, 65, dtype)
    assert_distances_close(
        pairwise_squared_distance(x), reference.pairwise_squared_distance(x), dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cloud", ["gaussian", "offset", "duplicates"])
def test_equal_rows_are_at_exactly_zero(dtype: torch.dtype, cloud: str) -> None:
    x = make_cloud(cloud, 97, 129, dtype)
    d = pairwise_squared_distance(x)
    equal = (x.unsqueeze(0) == x.unsqueeze(1)).all(-1)
    assert d.dtype == result_dtype(dtype)
    assert not d[equal].any()
    assert (d[~equal] > 0).all()
    assert not pairwise_squared_distance(x, x.clone())[equal].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_matrix_of_one_set_is_symmetric(dtype: torch.dtype) -> None:
    d = pairwise_squared_distance(make_cloud("gaussian", 97, 129, dtype))
    assert torch.equal(d, d.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1, 2, 5, 8, 16, 31])
def test_integers_are_exact(dtype: torch.dtype, dim: int) -> None:
    x = make_cloud("integers", 50, dim, dtype)
    d = pairwise_squared_distance(x)
    assert d.tolist() == reference.pairwise_squared_distance(x).tolist()


def test_non_contiguous_inputs() -> None:
    wide = make_cloud("gaussian", 96, 66)
    for x in (wide[:, ::2], wide[::3], wide.T, wide[5:50, 1:8], wide[:1].expand(20, 66)):
        expected = reference.pairwise_squared_distance(x, x[3:])
        assert_distances_close(pairwise_squared_distance(x, x[3:]), expected, x.dtype)


def check_gradients(*inputs: torch.Tensor) -> None:
    """The gradient under a random weight is the oracle's, which is not rounded to the dtype."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    d, expected = pairwise_squared_distance(*inputs), reference.pairwise_squared_distance(*exact)
    weight = random_like(d, torch.randn)
    oracle = torch.autograd.grad(expected, exact, weight.double())
    for actual, e in zip(torch.autograd.grad(d, inputs, weight), oracle, strict=True):
        assert_gradient_close(actual, e, inputs[0].dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "dim"), [(0, 3, 4), (49, 97, 1), (97, 48, 129), (2, 200, 17)])
@pytest.mark.parametrize("cloud", ["gaussian", "far", "collapsed"])
def test_gradients(m: int, n: int, dim: int, dtype: torch.dtype, cloud: str) -> None:
    x = make_cloud(cloud, m, dim, dtype).requires_grad_()
    y = make_cloud(cloud, n, dim, dtype, seed=1).requires_grad_()
    check_gradients(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_one_set(dtype: torch.dtype) -> None:
    """The weight is not symmetric: both halves of the matrix reach the gradient."""
    x = make_cloud("gaussian", 97, 33, dtype).requires_grad_()
    check_gradients(x)


def test_two_dtypes_meet_in_the_wider_one() -> None:
    x, y = make_cloud("gaussian", 9, 5), make_cloud("gaussian", 7, 5, torch.float64, seed=1)
    d = pairwise_squared_distance(x, y)
    assert_distances_close(d, reference.pairwise_squared_distance(x, y), torch.float64)
    assert torch.equal(d, pairwise_squared_distance(x.double(), y))


def test_only_one_input_wants_a_gradient() -> None:
    x, y = make_cloud("gaussian", 9, 5), make_cloud("gaussian", 7, 5, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(reference.pairwise_squared_distance(x, y).sum(), y)
    (actual,) = torch.autograd.grad(pairwise_squared_distance(x, y).sum(), y)
    assert_gradient_close(actual, expected, x.dtype)
    assert not pairwise_squared_distance(x, y.detach()).requires_grad


def test_gradcheck() -> None:
    x = make_cloud("gaussian", 5, 3, torch.float64).requires_grad_()
    y = make_cloud("gaussian", 4, 3, torch.float64, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(pairwise_squared_distance, (x, y))
    assert torch.autograd.gradcheck(pairwise_squared_distance, (x,))
    assert torch.autograd.gradgradcheck(pairwise_squared_distance, (x, y))
    assert torch.autograd.gradgradcheck(pairwise_squared_distance, (x,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_row_is_seen_in_all_its_distances(value: float) -> None:
    x = make_cloud("gaussian", 50, 20)
    x[17, 19] = value
    d = pairwise_squared_distance(x)
    others = torch.arange(50) != 17
    assert not d[17].isfinite().any()
    assert not d[:, 17].isfinite().any()
    assert d[others][:, others].isfinite().all()


def test_large_values_do_not_overflow_early() -> None:
    x = make_cloud("gaussian", 20, 64) * 1e18
    d = pairwise_squared_distance(x)
    assert d.isfinite().all()
    assert_distances_close(d, reference.pairwise_squared_distance(x), x.dtype)
    assert eps(x.dtype) == 2**-23


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_change_a_bit(
    dtype: torch.dtype, set_threads: SetThreads
) -> None:
    x = make_cloud("gaussian", 500, 129, dtype)
    results = []
    for threads in (1, 2, 2):
        set_threads(threads)
        results.append(pairwise_squared_distance(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])
