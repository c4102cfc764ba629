"""supcon_loss and ntxent_loss are the oracle's, and pytorch-metric-learning's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    ROWS,
    SetThreads,
    bank,
    make_batch,
    make_cloud,
    make_labels,
    random_like,
    without_ids,
)
from tolerances import DTYPES, assert_gradient_close, assert_loss_close, result_dtype
from torch import Tensor

from facenet_ext import reference
from facenet_ext.functional import ntxent_loss, supcon_loss
from facenet_ext.losses import NTXentLoss, SupConLoss
from facenet_ext.memory import CrossBatchMemory

Loss = Callable[..., Tensor]
LOSSES = (supcon_loss, ntxent_loss)
REDUCTIONS = ("mean", "mean_nonzero", "sum")


def check(
    loss: Loss, x: Tensor, y: Tensor, t: float = 0.1, *, ref_emb: Tensor | None = None, **rest: Any
) -> None:
    """Loss and gradients are the oracle's."""
    oracle = getattr(reference, loss.__name__)
    given = [e.detach() for e in (x, ref_emb) if e is not None]
    inputs = [e.clone().requires_grad_() for e in given]
    exact = [e.double().clone().requires_grad_() for e in given]
    actual, expected = (
        of(e[0], y, t, **({"ref_emb": e[1]} if len(e) == 2 else {}), **rest)
        for of, e in ((loss, inputs), (oracle, exact))
    )
    terms = len(x) * max(len(given[-1]), 1) if rest.get("reduction") == "sum" else 1
    assert_loss_close(actual, expected, x.dtype, terms / t)
    gradients = torch.autograd.grad(actual, inputs)
    for gradient, of_oracle in zip(gradients, torch.autograd.grad(expected, exact), strict=True):
        assert_gradient_close(gradient, of_oracle, x.dtype)


# --- golden values -------------------------------------------------------------------------------


E = math.e


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("loss", "of_three"),
    [
        # Anchors 0 and 4, 1, 2, 3.
        (supcon_loss, [(2, 2 + E + 1 / E, 0.5), (2, 3 + 1 / E, 0), (1, 2 + 2 / E, 0)]),
        # Pairs with a cosine of 0, of 1, and those of the smaller class.
        (
            ntxent_loss,
            [(4, 2 + 1 / E, 0), (2, 1 + E + 1 / E, 1), (1, 3 + 1 / E, 0), (1, 2 + 2 / E, 0)],
        ),
    ],
)
def test_golden_values(
    loss: Loss, of_three: list[tuple[int, float, float]], dtype: torch.dtype
) -> None:
    """Two rows of each class, at cosines of 0 and -1; then one of them once more."""
    x = torch.tensor([[1, 0], [0, 1], [0, -1], [-1, 0], [1, 0]], dtype=dtype)
    y = torch.tensor([0, 0, 1, 1, 0])
    expected = sum(n * (math.log(total) - cosine) for n, total, cosine in of_three)
    for actual, value in (
        (loss(x[:4], y[:4], 1.0), math.log(2 + 1 / E)),
        (loss(x, y, 1.0), expected / sum(n for n, _, _ in of_three)),
    ):
        torch.testing.assert_close(actual, torch.tensor(value, dtype=result_dtype(dtype)))


# --- the oracle's, over a grid -------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n", ROWS)
def test_every_number_of_rows(n: int, loss: Loss) -> None:
    check(loss, *make_batch("uneven", n, 17))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dim", [dim for dim in COLUMNS if dim > 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_columns(dtype: torch.dtype, dim: int, loss: Loss) -> None:
    check(loss, *make_batch("quads", 49, dim, dtype))


@pytest.mark.parametrize("loss", LOSSES)
def test_on_a_line_no_direction_changes(loss: Loss) -> None:
    x, y = make_batch("quads", 49, 1, torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("t", [0.01, 0.07, 1.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_temperature_and_reduction(
    dtype: torch.dtype, t: float, reduction: str, loss: Loss
) -> None:
    x, y = make_batch("uneven", 49, 19, dtype)
    check(loss, x, y, t, reduction=reduction)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("with_ids", [False, True])
def test_softmax_against_a_bank(with_ids: bool, reduction: str, loss: Loss) -> None:
    x, y, references = bank(49, 97, 19, "gaussian", "uneven")
    # A copy by its id, not by its numbers: one that is not left out shows in the gradient.
    references["ref_emb"] = references["ref_emb"].roll(1, dims=1)
    if not with_ids:
        references = without_ids(references)
    check(loss, x, y, reduction=reduction, **references)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bank_of_every_dtype(dtype: torch.dtype, loss: Loss) -> None:
    x, y, references = bank(65, 49, 33, "gaussian", "quads", dtype)
    check(loss, x, y, **without_ids(references))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 5), (5, 0), (1, 1), (1, 2), (2, 1)])
def test_tiny_banks(m: int, n: int, loss: Loss) -> None:
    x, y = make_batch("pairs", m, 3)
    c, z = make_batch("pairs", n, 3, seed=1)
    check(loss, x, y, ref_emb=c, ref_labels=z)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cloud", ["duplicates", "integers", "axes", "zeros"])
def test_difficult_clouds(cloud: str, dtype: torch.dtype, loss: Loss) -> None:
    """Ties, equal rows, and rows of zeros, which have no direction."""
    check(loss, *make_batch("quads", 49, 65, dtype, cloud))


@pytest.mark.parametrize("loss", LOSSES)
def test_more_than_a_hundred_positives_per_anchor(loss: Loss) -> None:
    check(loss, *make_batch("halves", 240, 33))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_alone_in_its_class_is_only_a_negative(loss: Loss) -> None:
    x, y = make_batch("quads", 48, 33, torch.float64)
    y[::4] = torch.arange(100, 112)
    check(loss, x, y)
    alone = y >= 100
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    assert gradient[alone].any(1).all()


# --- pytorch-metric-learning's -------------------------------------------------------------------

PEERS = [("SupConLoss", SupConLoss, "mean_nonzero"), ("NTXentLoss", NTXentLoss, "mean")]
REDUCERS = {"mean": "MeanReducer", "mean_nonzero": "AvgNonZeroReducer", "sum": "SumReducer"}


@pytest.mark.parametrize(("name", "ours", "default"), PEERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["pairs", "uneven", "one_class", "all_different"])
@pytest.mark.parametrize("with_bank", [False, True])
def test_it_is_pytorch_metric_learnings(
    with_bank: bool, layout: str, dtype: torch.dtype, name: str, ours: Any, default: str
) -> None:
    peer = getattr(pytest.importorskip("pytorch_metric_learning.losses"), name)
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    x, y, references = bank(50, 39, 33, "gaussian", layout, dtype)
    inputs = [x, references["ref_emb"]] if with_bank else [x]

    def result(loss: Any) -> tuple[Tensor, ...]:
        rows = [e.clone().requires_grad_() for e in inputs]
        rest = {"ref_emb": rows[1], "ref_labels": references["ref_labels"]} if with_bank else {}
        value = loss(rows[0], y, **rest)
        return value.detach(), *torch.autograd.grad(value, rows, materialize_grads=True)

    pairs = [(ours(), peer())]
    for t, (reduction, reducer) in zip((0.05, 0.1, 0.5), REDUCERS.items(), strict=True):
        theirs = peer(temperature=t, reducer=getattr(reducers, reducer)())
        pairs.append((ours(t, reduction=reduction), theirs))
    assert pairs[0][0].reduction == default
    for mine, theirs in pairs:
        actual, expected = result(mine), result(theirs)
        torch.testing.assert_close(actual[0], expected[0], rtol=1e-6, atol=0.0)
        for gradient, of_theirs in zip(actual[1:], expected[1:], strict=True):
            largest = float(of_theirs.abs().max())
            torch.testing.assert_close(gradient, of_theirs, rtol=0.0, atol=3e-6 * largest)


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", ["pairs", "uneven"])
def test_gradcheck(layout: str, loss: Loss) -> None:
    x, y = make_batch(layout, 6, 3, torch.float64)
    c, z = make_batch(layout, 7, 3, torch.float64, seed=1)
    x, c = x.requires_grad_(), c.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, y, 0.5), (x,))
    assert torch.autograd.gradcheck(lambda x, c: loss(x, y, 0.5, ref_emb=c, ref_labels=z), (x, c))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_a_gradient_of_one_side_alone(wanted: tuple[bool, bool], loss: Loss) -> None:
    x, y, references = bank(49, 97, 33, "gaussian", "quads")
    z = references["ref_labels"]

    def gradients(*sides: bool) -> list[Tensor | None]:
        pair = zip((x, references["ref_emb"]), sides, strict=True)
        a, b = (e.clone().requires_grad_(side) for e, side in pair)
        loss(a, y, ref_emb=b, ref_labels=z).backward()
        return [a.grad, b.grad]

    both = gradients(True, True)
    for one, other, side in zip(gradients(*wanted), both, wanted, strict=True):
        assert (one is not None) == side
        assert one is None or torch.equal(one, other)


# --- nothing there, non-finite -------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_without_positives_or_negatives_loss_and_gradient_are_zero(
    n: int, reduction: str, loss: Loss
) -> None:
    for labels in (torch.zeros(n, dtype=torch.int64), torch.arange(n)):
        x = make_cloud("gaussian", n, 3).requires_grad_()
        value = loss(x, labels, reduction=reduction)
        value.backward()
        assert value.item() == 0.0
        assert x.grad is not None
        assert not x.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_embedding_that_is_not_finite_makes_the_loss_so(
    dtype: torch.dtype, value: float, loss: Loss
) -> None:
    x, y = make_batch("quads", 49, 5, dtype)
    x[48, 2] = value
    x.requires_grad_()
    result = loss(x, y)
    result.backward()
    assert result.isnan()
    assert x.grad is not None
    assert x.grad.isnan().any()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_length_of_a_row_does_not_count(loss: Loss) -> None:
    x, y = make_batch("quads", 49, 33, torch.float64)
    for scale in (1e-150, 1e150):
        torch.testing.assert_close(loss(scale * x, y), loss(x, y), rtol=1e-13, atol=0.0)


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_any_number_of_threads_gives_the_same_bits(set_threads: SetThreads, loss: Loss) -> None:
    results = []
    for threads in 1, 2, 3:
        set_threads(threads)
        x, y = make_batch("quads", 500, 65)
        x.requires_grad_()
        value = loss(x, y)
        results.append((value.detach(), *torch.autograd.grad(value, x)))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_rows_does_not_show(loss: Loss) -> None:
    x, y = make_batch("uneven", 97, 19, torch.float64)
    order = random_like(y.double(), torch.rand).argsort()
    torch.testing.assert_close(loss(x, y), loss(x[order], y[order]), rtol=1e-12, atol=0.0)


def test_non_contiguous_inputs() -> None:
    wide, labels = make_cloud("gaussian", 96, 66), make_labels("quads", 192)[::2]
    for x in (wide[:, ::2], wide.T, wide[5:50, 1:8]):
        check(supcon_loss, x, labels[: len(x)])


# --- options and modules -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SupConLoss, NTXentLoss, *LOSSES])
@pytest.mark.parametrize("t", [0, -0.1, math.nan, math.inf, 1e-39, 10**400, "0.1", None, True])
def test_a_temperature_that_is_not_above_0(t: Any, make: Any) -> None:
    rows = make_batch("pairs", 8, 3) if make in LOSSES else ()
    with pytest.raises(ValueError, match=r"temperature: expected a finite number above 0, got "):
        make(*rows, temperature=t)


def test_the_operator_refuses_a_temperature_too() -> None:
    batch = (*make_batch("pairs", 8, 3), None, None, None, None)
    for t in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(RuntimeError, match="temperature: expected a number above 0"):
            torch.ops.facenet_ext.softmax_loss(*batch, "supcon", t, False, "mean", False, False)
    with pytest.raises(
        RuntimeError, match="loss: expected one of 'supcon', 'ntxent', got 'triplet'"
    ):
        torch.ops.facenet_ext.softmax_loss(*batch, "triplet", 0.1, False, "mean", False, False)


@pytest.mark.parametrize(
    ("module", "function"), [(SupConLoss, supcon_loss), (NTXentLoss, ntxent_loss)]
)
def test_the_module_is_the_function(module: Any, function: Loss) -> None:
    x, y, references = bank(49, 97, 33, "gaussian", "quads")
    assert torch.equal(module()(x, y), function(x, y))
    one = module(0.3, reduction="sum")
    assert torch.equal(
        one(x, y, None, **references), function(x, y, 0.3, reduction="sum", **references)
    )
    with pytest.raises(
        ValueError, match=r"indices_tuple: expected None, as .*Loss takes every pair"
    ):
        module()(x, y, (y, y, y))


@pytest.mark.parametrize("module", [SupConLoss, NTXentLoss])
def test_a_memory_of_batches(module: Any) -> None:
    """What the memory has of a row itself is not its positive."""
    x, y = make_batch("quads", 48, 8)
    memory = CrossBatchMemory(module(), 8, 96)
    memory(x[:24], y[:24])
    ids = {"anchor_ids": torch.arange(24, 48), "ref_ids": torch.arange(48)}
    expected = module()(x[24:], y[24:], None, x, y, **ids)
    torch.testing.assert_close(memory(x[24:], y[24:]), expected)
