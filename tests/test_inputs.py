"""Inputs of every kind: integer types and their extremes, views, empty, thin and wide matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import assert_loss_and_gradients, assert_same_triplets, make_batch, make_labels
from tolerances import DTYPES, assert_gradient_close, eps, result_dtype
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from facenet_ext import TripletMiner, reference
from facenet_ext.functional import (
    mined_triplet_loss,
    ntxent_loss,
    pairwise_squared_distance,
    select_triplets,
    supcon_loss,
    triplet_loss,
    triplet_margin_loss,
)

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
# What takes a batch x, y: a new function is one more entry.
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "distances": lambda x, y: pairwise_squared_distance(x),
    "distances of two": lambda x, y: pairwise_squared_distance(x, x[: len(x) // 2]),
    "selection": select_triplets,
    "mined": lambda x, y: mined_triplet_loss(x, y, 1.0),
    "mined, none": lambda x, y: mined_triplet_loss(x, y, reduction="none"),
    "mined from a bank": lambda x, y: mined_triplet_loss(x, y, ref_emb=x, ref_labels=y),
    "over all triplets": lambda x, y: triplet_margin_loss(x, y, 1.0),
    "supcon": supcon_loss,
    "ntxent": ntxent_loss,
    "given": lambda x, y: triplet_loss(x, select_triplets(x, y, positives="easiest"), 1.0),
}


def extremes(dtype: torch.dtype) -> Tensor:
    """The least, the most and their neighbours."""
    info = torch.iinfo(dtype)
    values = [info.min, info.max, info.min + 1, info.max - 1]
    if dtype == torch.uint64:  # which torch makes no tensor of directly
        return torch.tensor([v - 2**64 if v >= 2**63 else v for v in values]).view(dtype)
    return torch.tensor(values).to(dtype)


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, codes 0 to 3, and classes named by the extremes of a type: by the codes, in reverse."""
    x, codes = make_batch("quads", 48, 5, cloud="integers")
    codes = codes % 4
    names = extremes(dtype)
    bits = names.view(torch.int64) if dtype == torch.uint64 else names.long()
    forth, back = bits[codes], bits[codes.flip(0)]
    if dtype == torch.uint64:
        return x, codes, forth.view(dtype), back.view(dtype)
    return x, codes, forth.to(dtype), back.to(dtype)


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED)
def test_labels_and_ids_at_the_ends_of_their_type(dtype: torch.dtype) -> None:
    x, codes, labels, reverse = batch(dtype)
    assert labels.dtype == dtype
    assert_same_triplets(select_triplets(x, labels), reference.select_triplets(x, codes))
    assert torch.equal(mined_triplet_loss(x, labels), mined_triplet_loss(x, codes))
    bank = {"ref_emb": x, "ref_labels": codes.flip(0)}
    named = bank | {"ref_labels": reverse, "anchor_ids": labels, "ref_ids": labels}
    expected = reference.select_triplets(x, codes, **bank, anchor_ids=codes, ref_ids=codes)
    assert_same_triplets(select_triplets(x, labels, **named), expected)


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED)
def test_labels_of_two_types_are_compared_as_numbers(dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 48, 5, cloud="integers")
    expected = reference.select_triplets(x, y, ref_emb=x, ref_labels=y)
    for other in (torch.int64, torch.uint8, torch.int16):
        bank = {"ref_emb": x, "ref_labels": y.to(dtype)}
        assert_same_triplets(select_triplets(x, y.to(other), **bank), expected)


@pytest.mark.parametrize("flipped", [False, True])
def test_uint64_beyond_int64_beside_a_signed_type_is_refused(flipped: bool) -> None:
    """As int64 it would be a negative number, which may be the other's."""
    x, _, beyond, _ = batch(torch.uint64)
    signed = torch.full((48,), -1)
    y, z = (signed, beyond) if flipped else (beyond, signed)
    name = "ref_labels" if flipped else "labels"
    with pytest.raises(ValueError, match=rf"^{name}: expected values below 2\*\*63"):
        select_triplets(x, y, ref_emb=x, ref_labels=z)
    ids = {"anchor_ids": y, "ref_ids": z}
    with pytest.raises(ValueError, match=r"_ids: expected values below 2\*\*63"):
        mined_triplet_loss(x, signed, ref_emb=x, ref_labels=signed, **ids)


# --- views ---------------------------------------------------------------------------------------

# The same matrix [48, 6] as a view of other memory. torch has no negative strides: a flip copies.
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "every other row": lambda x: torch.stack([x, x + 1], 1).flatten(0, 1)[::2],
    "every third column": lambda x: torch.stack([x, x + 1, x], 2).flatten(1)[:, ::3],
    "transposed": lambda x: x.T.contiguous().T,
    "flipped": lambda x: x.flip(0, 1).contiguous().flip(0, 1),
    "in the middle": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 4), value=9.0)[1:-4, 3:-2],
    "odd offset": lambda x: torch.cat([x.new_ones(1), x.flatten()])[1:].view(x.shape),
    "unaligned rows": lambda x: torch.cat([x, x[:, :1]], 1)[:, :6],
    "negated": lambda x: torch._neg_view(-x),
    "imaginary": lambda x: torch.complex(x, -x).conj().imag,
}
# Matrices whose rows share memory, from one of [48, 6].
OVERLAPPING: dict[str, Callable[[Tensor], Tensor]] = {
    "one row": lambda x: x[:1].expand(48, 6),
    "one column": lambda x: x[:, :1].expand(48, 6),
    "one number": lambda x: x[:1, :1].expand(48, 6),
    "a sliding window": lambda x: x.flatten().as_strided((48, 6), (2, 1)),
    "a diagonal band": lambda x: x.flatten().as_strided((48, 6), (1, 1)),
}


def assert_as_contiguous(function: str, x: Tensor, y: Tensor) -> None:
    """Value and gradient are those of the same numbers in memory of their own.

    To the bit, but for the gradient of distances: torch.mm adds by the memory's layout.
    """
    results, gradients = [], []
    for view in (x, x.resolve_neg().contiguous().clone()):
        leaf = view.detach().requires_grad_()
        value = FUNCTIONS[function](leaf, y)
        parts = list(value) if isinstance(value, tuple) else [value]
        if parts[0].requires_grad:
            gradients += torch.autograd.grad(parts[0].sum(), leaf)
        results.append(parts)
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)
    if function.startswith("distances"):
        assert_gradient_close(*gradients, x.dtype)
    elif gradients:
        assert torch.equal(*gradients)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("view", "dtype"),
    [
        *((view, torch.float32) for view in VIEWS),
        *((view, torch.bfloat16) for view in VIEWS if view != "imaginary"),
    ],
)
def test_a_view_is_what_it_shows(view: str, function: str, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 48, 6, dtype)
    shown = VIEWS[view](x)
    assert torch.equal(shown, x)
    assert_as_contiguous(function, shown, y)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("view", OVERLAPPING)
def test_rows_that_share_memory(view: str, function: str) -> None:
    x, y = make_batch("quads", 48, 6)
    assert_as_contiguous(function, OVERLAPPING[view](x), y)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_labels_in_memory_of_every_kind(function: str) -> None:
    x, y = make_batch("quads", 48, 6)
    for labels in (y.repeat_interleave(3)[::3], torch.cat([y[:1], y])[1:], y[:1].expand(48)):
        actual, expected = (FUNCTIONS[function](x, each) for each in (labels, labels.clone()))
        for a, e in (
            zip(actual, expected, strict=True)
            if isinstance(actual, tuple)
            else [(actual, expected)]
        ):
            assert torch.equal(a, e)


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 5), (7, 0), (1, 1), (1, 0)])
def test_zero_rows_and_zero_columns(
    rows: int, columns: int, function: str, dtype: torch.dtype
) -> None:
    """Of no triplets the loss is 0; without columns all rows are one, at distance 0."""
    x = torch.zeros(rows, columns, dtype=dtype, requires_grad=True)
    value = FUNCTIONS[function](x, torch.arange(rows) // 2)
    parts = value if isinstance(value, tuple) else (value,)
    assert all(part.isfinite().all() for part in parts)
    if function == "mined":
        expected = reference.mined_triplet_loss(x, torch.arange(rows) // 2, 1.0)
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    if parts[0].requires_grad:
        (gradient,) = torch.autograd.grad(parts[0].sum(), x)
        assert gradient.shape == x.shape
        assert gradient.dtype == dtype
        assert not gradient.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("distance", "columns"),
    [*itertools.product(("sqeuclidean", "euclidean"), (1, 2, 4096)), ("cosine", 4096)],
)
def test_thin_and_wide_rows(distance: str, columns: int, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 50, columns, dtype)
    options = {"distance": distance}
    t = select_triplets(x, y, **options)
    assert t.d_an.dtype == result_dtype(dtype)
    assert_loss_and_gradients(
        lambda x: mined_triplet_loss(x, y, 0.3, **options), t, 0.3, x, **options
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_cosine_of_one_column_is_a_sign(dtype: torch.dtype) -> None:
    """Distances are 0 or 2, and nothing pushes a row."""
    x, y = make_batch("quads", 50, 1, dtype)
    t = select_triplets(x.requires_grad_(), y, distance="cosine")
    assert ((t.d_an - t.d_an.round()).abs() <= 8 * eps(dtype)).all()
    value = mined_triplet_loss(x, y, distance="cosine")
    expected = reference.triplet_loss(x, t, distance="cosine").item()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(value, x)
    assert (gradient.double() * x).abs().max() <= 8 * eps(dtype)


@pytest.mark.parametrize("rows", [1, 2, 48, 49])
@pytest.mark.parametrize("layout", ["one_class", "all_different"])
@pytest.mark.parametrize("function", ["selection", "mined", "mined from a bank"])
def test_classes_of_all_rows_and_of_one(function: str, layout: str, rows: int) -> None:
    """There is no triplet, but from a bank: each row is its own copy's positive there."""
    x, y = make_batch(layout, rows, 6)
    x.requires_grad_()
    value = FUNCTIONS[function](x, y)
    if function == "selection":
        assert all(len(part) == 0 for part in value)
        return
    bank = {"ref_emb": x, "ref_labels": y} if function == "mined from a bank" else {}
    assert value.item() == pytest.approx(
        reference.mined_triplet_loss(x, y, 0.2, **bank).item(), rel=1e-5, abs=1e-6
    )
    value.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("rows", "candidates"), [(0, 5), (5, 0), (0, 0)])
def test_a_bank_or_a_batch_of_no_rows(rows: int, candidates: int) -> None:
    x, c = (torch.randn(n, 4, requires_grad=True) for n in (rows, candidates))
    bank = {"ref_emb": c, "ref_labels": make_labels("quads", candidates)}
    assert pairwise_squared_distance(x, c).shape == (rows, candidates)
    assert len(select_triplets(x, make_labels("quads", rows), **bank).anchor) == 0
    value = mined_triplet_loss(x, make_labels("quads", rows), **bank)
    assert value == 0
    value.backward()
    assert x.grad is not None
    assert c.grad is not None
    assert not x.grad.any()
    assert not c.grad.any()


# --- tensors without data ------------------------------------------------------------------------

LISTED = ("selection", "mined, none", "given")  # their sizes are numbers of triplets


@pytest.mark.parametrize("function", FUNCTIONS)
def test_on_the_meta_device_shapes_and_gradients_are_known(function: str) -> None:
    x, y = (t.to("meta") for t in make_batch("quads", 12, 8))
    x.requires_grad_()
    if function in LISTED:
        told = "embeddings: expected values, .* meta .* the number of triplets depends on them"
        with pytest.raises(ValueError, match=told):
            FUNCTIONS[function](x, y)
        return
    result = FUNCTIONS[function](x, y)
    expected = FUNCTIONS[function](*make_batch("quads", 12, 8))
    assert (result.shape, result.dtype, result.is_meta) == (expected.shape, expected.dtype, True)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert (gradient.shape, gradient.dtype) == (x.shape, x.dtype)


def test_a_fake_selection_has_a_size_of_its_own() -> None:
    """As torch.compile traces it, and export: a number that is known at run time alone."""
    with FakeTensorMode(shape_env=ShapeEnv()):
        x, y = torch.empty(12, 8), torch.zeros(12, dtype=torch.int64)
        loss = mined_triplet_loss(x, y, reduction="none")
        for tensor in (*select_triplets(x, y), *TripletMiner()(x, y), loss):
            assert isinstance(tensor.shape[0], torch.SymInt)
