"""Index tuples as triplets: three tensors as they are, pairs (a1, p, a2, n) joined by anchor."""

from __future__ import annotations

import pytest
import torch
from helpers import assert_same_triplets, made_on_cpu, make_batch, pair_masks
from torch import Tensor

from facenet_ext import TripletLoss, functional, select_triplets
from facenet_ext._indices import as_triplets


@made_on_cpu
def random_pairs(positive: int, negative: int, anchors: int, seed: int = 0) -> tuple[Tensor, ...]:
    """`positive` pairs (a1, p) and `negative` pairs (a2, n), anchors in any order and repeated."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (positive, positive, negative, negative)
    return tuple(torch.randint(0, anchors, (size,), generator=generator) for size in sizes)


def joined(a1: Tensor, p: Tensor, a2: Tensor, n: Tensor) -> list[tuple[int, int, int]]:
    """What the docstring says, pair by pair."""
    return [
        (a, int(p[i]), int(n[j]))
        for i, a in enumerate(a1.tolist())
        for j, b in enumerate(a2.tolist())
        if a == b
    ]


@pytest.mark.parametrize("positive", [0, 1, 9, 40])
@pytest.mark.parametrize("negative", [0, 1, 9, 40])
@pytest.mark.parametrize("anchors", [1, 7, 100])
def test_every_positive_pair_meets_every_negative_pair_of_its_anchor(
    positive: int, negative: int, anchors: int
) -> None:
    pairs = random_pairs(positive, negative, anchors)
    triplets = as_triplets(pairs)
    assert all(index.dtype == torch.int64 for index in triplets)
    assert list(zip(*(index.tolist() for index in triplets), strict=True)) == joined(*pairs)


def test_three_tensors_and_triplets_stay_as_they_are() -> None:
    x, y = make_batch("quads", 25, 7)
    triplets = select_triplets(x, y)
    assert all(a is b for a, b in zip(as_triplets(triplets), triplets[:3], strict=True))
    assert all(a is b for a, b in zip(as_triplets(triplets[:3]), triplets[:3], strict=True))


@pytest.mark.parametrize("smooth", [False, True])
def test_the_loss_of_all_pairs_is_the_loss_of_all_triplets(smooth: bool) -> None:
    x, y = make_batch("uneven", 30, 7)
    x.requires_grad_()
    positive, negative = pair_masks(y)
    pairs = (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))
    a, p, n = (positive.unsqueeze(2) & negative.unsqueeze(1)).nonzero(as_tuple=True)
    assert_same_triplets(as_triplets(pairs), (a, p, n))
    loss = TripletLoss(smooth=smooth)(x, y, pairs)
    assert torch.equal(loss, functional.triplet_loss(x, (a, p, n), smooth=smooth))


def test_no_pairs_cost_nothing() -> None:
    x, y = make_batch("quads", 8, 3)
    x.requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    some = torch.arange(4)
    for pairs in ((none,) * 4, (some, some, none, none), (none, none, some, some)):
        loss = TripletLoss()(x, y, pairs)
        assert loss == 0
        assert torch.autograd.grad(loss, x)[0].count_nonzero() == 0


def test_pairs_of_a_bank_index_its_rows() -> None:
    x, y = make_batch("quads", 9, 3)
    c, z = make_batch("quads", 20, 3, seed=1)
    positive, negative = pair_masks(y, z)
    pairs = (*positive.nonzero(as_tuple=True), *negative.nonzero(as_tuple=True))
    loss = TripletLoss()(x, y, pairs, c, z)
    assert torch.equal(loss, functional.triplet_loss(x, as_triplets(pairs), ref_emb=c))


def test_memory_is_that_of_the_triplets() -> None:
    """20,000 positive by 20,000 negative pairs: a table of them would have 400 million entries."""
    index = torch.arange(20_000)
    a, p, n = as_triplets((index, index + 1, index.flip(0), index))
    assert a.equal(index)
    assert p.equal(index + 1)
    assert n.equal(index.flip(0))


def test_integers_of_any_type_are_pairs() -> None:
    pairs = random_pairs(9, 9, 4)
    assert_same_triplets(as_triplets([i.to(torch.int16) for i in pairs]), as_triplets(pairs))


def test_what_are_no_pairs() -> None:
    index = torch.arange(3)
    with pytest.raises(ValueError, match=r"indices_tuple: expected .* got 5 entries"):
        as_triplets((index,) * 5)
    with pytest.raises(ValueError, match=r"indices_tuple\[1\]: expected 3 entries .* got 2"):
        as_triplets((index, index[:2], index, index))
    with pytest.raises(ValueError, match=r"indices_tuple\[3\]: expected 3 entries .* got 2"):
        as_triplets((index, index, index, index[:2]))
    with pytest.raises(TypeError, match=r"indices_tuple\[2\]: expected integers"):
        as_triplets((index, index, index.double(), index))
