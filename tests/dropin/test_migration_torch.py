"""docs/migration.md: torch.nn.TripletMarginLoss."""

from __future__ import annotations

import math

import pytest
import torch
from migration_table import Section, number, shown
from side_by_side import compare, on_batches, some_triplets

from facenet_ext import triplet_loss

section = Section("torch.nn.TripletMarginLoss")


@on_batches
@pytest.mark.parametrize(("theirs", "ours"), section.calls())
def test_the_same_value(theirs: str, ours: str, kind: str) -> None:
    compare(theirs, ours, kind, some_triplets)


@section.differs("default margin")
def test_margin(theirs: str, ours: str) -> None:
    rows = torch.zeros(2, 3)
    zero = torch.zeros(2, dtype=torch.int64)
    assert shown(torch.nn.TripletMarginLoss()(rows, rows, rows), theirs)
    assert shown(triplet_loss(rows, (zero, zero, zero)), ours)


@section.differs("default distance")
def test_distance(theirs: str, ours: str) -> None:
    x = torch.tensor([[0.0], [3.0], [5.0]])
    indices = tuple(torch.tensor([i]) for i in range(3))
    gap = {"Euclidean": 3.0 - 5.0, "squared Euclidean": 9.0 - 25.0}
    loss = torch.nn.TripletMarginLoss(margin=100.0)(*(x[i] for i in indices))
    assert loss == pytest.approx(100.0 + gap[theirs])
    assert triplet_loss(x, indices, 100.0) == pytest.approx(100.0 + gap[ours])


@section.differs("distance of two equal rows")
def test_equal_rows(theirs: str, ours: str) -> None:
    """Theirs adds eps to each difference."""
    x = torch.cat([torch.ones(2, 4), torch.full((1, 4), 3.0)]).double()
    far = math.dist(x[0], x[2])
    loss = torch.nn.TripletMarginLoss(margin=far, reduction="sum")(x[:1], x[1:2], x[2:])
    # The same eps shortens the distance of the negative, by eps * sqrt(4).
    assert loss == pytest.approx(2 * number(theirs), rel=1e-3)
    indices = tuple(torch.tensor([i]) for i in range(3))
    assert triplet_loss(x, indices, far, distance="euclidean") == number(ours)


@section.differs("slope of the hinge where it is exactly 0")
def test_kink(theirs: str, ours: str) -> None:
    """By the gradient in the positive, which the distance to it pushes off."""
    indices = tuple(torch.tensor([i]) for i in range(3))
    u, v = (torch.tensor([[0.0], [1.0], [2.0]], requires_grad=True) for _ in range(2))
    torch.nn.TripletMarginLoss(margin=1.0, eps=0.0)(*(u[i] for i in indices)).backward()
    triplet_loss(v, indices, 1.0, distance="euclidean").backward()
    assert u.grad is not None
    assert v.grad is not None
    assert u.grad[1].item() == number(theirs)
    assert v.grad[1].item() == number(ours)


@section.differs("no triplets")
def test_no_triplets(theirs: str, ours: str) -> None:
    rows = torch.zeros(0, 3)
    none = torch.zeros(0, dtype=torch.int64)
    assert shown(torch.nn.TripletMarginLoss()(rows, rows, rows), theirs)
    assert shown(triplet_loss(rows, (none, none, none)), ours)


def test_every_row_is_tested() -> None:
    assert section.untested() == []
