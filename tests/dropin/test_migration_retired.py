"""docs/migration.md: TensorFlow-Addons, davidsandberg/facenet, OpenFace.

Against their algorithms in NumPy (retired.py): values, and OpenFace's spelt-out gradient.
"""

from __future__ import annotations

import numpy as np
import pytest
import retired
import torch
from migration_table import Section, number, shown
from retired import tfa
from side_by_side import (
    LONE_ANCHOR,
    NO_NEGATIVES,
    OURS,
    assert_same_value,
    batch,
    on_batches,
    some_triplets,
)

from facenet_ext import TripletHardLoss, TripletSemiHardLoss, select_triplets, triplet_loss

addons, sandberg, openface = (
    Section("TensorFlow-Addons"),
    Section("davidsandberg/facenet"),
    Section("OpenFace"),
)


def lua(call: str) -> str:
    """The Lua calls of the page in Python."""
    return call.replace(":forward({", ".forward((").replace("})", "))")


@on_batches
@pytest.mark.parametrize(
    ("theirs", "ours"), [*addons.calls(), *sandberg.calls(), *openface.calls()]
)
def test_the_same_value(theirs: str, ours: str, kind: str) -> None:
    x, y = batch(kind)
    indices = some_triplets(x, y)
    in_numpy = {name: index.numpy() for name, index in indices.items()}
    scope = {name: getattr(retired, name) for name in ("tfa", "facenet", "tf", "nn")}
    scope |= {"x": x.detach().numpy(), "y": y.numpy()} | in_numpy
    expected = eval(lua(theirs), scope)
    assert_same_value(expected, eval(ours, OURS | indices | {"x": x, "y": y}), x)


@on_batches
def test_the_gradient_that_openface_spells_out(kind: str) -> None:
    x, y = batch(kind)
    indices = some_triplets(x, y)
    a, p, n = indices.values()
    (gradient,) = torch.autograd.grad(triplet_loss(x, (a, p, n), 0.2), x)
    rows = x.detach().numpy()
    expected = np.zeros_like(rows)
    apn = [rows[index.numpy()] for index in (a, p, n)]
    for index, part in zip(
        (a, p, n), retired.TripletEmbeddingCriterion(0.2).backward(apn), strict=True
    ):
        np.add.at(expected, index.numpy(), part)
    torch.testing.assert_close(gradient, torch.from_numpy(expected))


# --- what differs: TensorFlow-Addons --------------------------------------------------------------


@addons.differs("default margin")
def test_addons_margin(theirs: str, ours: str) -> None:
    x, y = torch.eye(3), torch.tensor([0, 0, 1])  # all distances are equal: the loss is the margin
    assert shown(tfa.losses.TripletSemiHardLoss()(y, x), theirs)
    assert shown(tfa.losses.TripletHardLoss()(y, x[:, :1] * 0), theirs)
    assert TripletSemiHardLoss().margin == TripletHardLoss().margin == number(ours)


@addons.differs("default distance")
def test_addons_distance(theirs: str, ours: str) -> None:
    x, y = torch.tensor([[0.0], [3.0], [5.0]]), torch.tensor([0, 0, 1])
    gap = {"Euclidean": 3.0 - 5.0 + 3.0 - 2.0, "squared Euclidean": 9.0 - 25.0 + 9.0 - 4.0}
    loss = tfa.losses.TripletSemiHardLoss(margin=100.0)(y, x)
    assert loss == pytest.approx(100.0 + gap[theirs] / 2)
    assert TripletSemiHardLoss(margin=100.0)(x, y) == pytest.approx(100.0 + gap[ours] / 2)


@addons.differs("semi-hard, no negatives")
def test_addons_semihard_without_negatives(theirs: str, ours: str) -> None:
    x, y = NO_NEGATIVES
    assert shown(tfa.losses.TripletSemiHardLoss(margin=1.0)(y, x), theirs)
    assert TripletSemiHardLoss(margin=1.0, distance="euclidean")(x, y) == number(ours)


@addons.differs("hard, no negatives")
def test_addons_hard_without_negatives(theirs: str, ours: str) -> None:
    x, y = NO_NEGATIVES
    assert shown(tfa.losses.TripletHardLoss(margin=1.0)(y, x), theirs)
    assert TripletHardLoss(margin=1.0, distance="euclidean")(x, y) == number(ours)


@addons.differs("semi-hard, no two rows of a class")
def test_addons_without_positives(theirs: str, ours: str) -> None:
    x, y = torch.eye(3), torch.arange(3)
    assert shown(tfa.losses.TripletSemiHardLoss()(y, x), theirs)
    assert TripletSemiHardLoss(margin=1.0)(x, y) == number(ours)


@addons.differs("hard, anchor without a positive")
def test_addons_lone_anchor(theirs: str, ours: str) -> None:
    x, y = LONE_ANCHOR
    assert shown(tfa.losses.TripletHardLoss(margin=2.5)(y, x), theirs)
    assert shown(TripletHardLoss(margin=2.5, distance="euclidean")(x, y), ours)


@addons.differs("margin of the soft hard loss")
def test_addons_soft_margin(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    few, many = (tfa.losses.TripletHardLoss(margin=m, soft=True)(y, x.detach()) for m in (0.1, 1.0))
    assert few == many
    assert TripletHardLoss(0.1, soft=True)(x, y) < TripletHardLoss(1.0, soft=True)(x, y)


@addons.differs("type of the loss")
def test_addons_type_of_the_loss(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    assert str(tfa.losses.TripletSemiHardLoss()(y, x.detach().half()).dtype) == theirs
    assert str(TripletSemiHardLoss()(x.half(), y).dtype) == f"torch.{ours}"


# --- what differs: facenet and OpenFace -----------------------------------------------------------


def four_images() -> tuple[torch.Tensor, torch.Tensor]:
    """A class of four images and another person's, all inside any margin that is used here."""
    x = torch.tensor([[0.0], [0.1], [0.2], [0.3], [0.35]])
    return x, torch.tensor([0, 0, 0, 0, 1])


@sandberg.differs("pairs of a class of 4 images")
def test_sandberg_pairs(theirs: str, ours: str) -> None:
    x, y = four_images()
    assert len(retired.candidates(x, y, 10.0)) == number(theirs)
    assert all(a < p for a, p in retired.candidates(x, y, 10.0))
    assert len(select_triplets(x, y).anchor) == number(ours)


@openface.differs("pairs of a class of 4 images")
def test_openface_pairs(theirs: str, ours: str) -> None:
    test_sandberg_pairs(theirs, ours)  # they take the same pairs


@sandberg.differs("`select_triplets`, the negative of a pair")
def test_sandberg_negatives(theirs: str, ours: str) -> None:
    """Of 24 rows some negatives are as hard as any, and few are the ones that are chosen here."""
    x, y = batch("gaussian")
    d = retired.squared_distances(x.detach().numpy())
    chosen = select_triplets(x, y)
    closest = {(int(a), int(p)): int(n) for a, p, n in zip(*chosen[:3], strict=True)}
    drawn = retired.candidates(x.detach(), y, 0.2)
    assert "d(a, n) - d(a, p) < alpha" in theirs
    assert any(d[a, n] < d[a, p] for (a, p), ns in drawn.items() for n in ns)
    assert max(len(ns) for ns in drawn.values()) > 1
    assert "d(a, n) > d(a, p)" in ours
    beyond = chosen.d_an > chosen.d_ap
    assert beyond.float().mean() > 0.9  # the others are farthest ones
    inside = [pair for pair, ns in drawn.items() if any(d[pair[0], n] > d[pair] for n in ns)]
    assert inside
    assert all(closest[pair] in drawn[pair] for pair in inside)

    assert '`negatives="random_violating", margin=alpha`' in ours
    seen: dict[tuple[int, int], set[int]] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        t = select_triplets(x, y, negatives="random_violating", margin=0.2, generator=generator)
        for a, p, n in torch.stack(t[:3], 1).tolist():
            seen.setdefault((a, p), set()).add(n)
    assert {pair: sorted(ns) for pair, ns in seen.items() if pair[0] < pair[1]} == drawn


@openface.differs("the negative of a pair")
def test_openface_negatives(theirs: str, ours: str) -> None:
    """Facenet's, where some image of another person is outside the margin."""
    test_sandberg_negatives(theirs, ours)
    x, y = batch("gaussian")
    drawn = retired.candidates(x.detach(), y, 0.2)
    alike = {(a, p): ns for (a, p), ns in drawn.items() if len(ns) < (y != y[a]).sum()}
    assert len(alike) > len(drawn) / 2
    for (a, p), negatives in alike.items():
        assert retired.openface_candidates(x.detach(), y, 0.2, a, p) == negatives


@sandberg.differs("`select_triplets`, a pair with no negative inside alpha")
def test_sandberg_satisfied_pairs(theirs: str, ours: str) -> None:
    x, y = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([0, 0, 1])
    assert theirs == "dropped"
    assert retired.candidates(x, y, 0.2) == {}
    assert ours.startswith('dropped by `"random_violating"`')
    assert select_triplets(x, y, negatives="random_violating").anchor.numel() == 0
    assert "its hinge is 0" in ours
    losses = triplet_loss(x, select_triplets(x, y), 0.2, reduction="none")
    assert losses.tolist() == [0.0, 0.0]


@openface.differs("all images of other people are inside the margin")
def test_openface_draws_the_own_class(theirs: str, ours: str) -> None:
    x, y = four_images()
    drawn = retired.openface_candidates(x, y, 10.0, 0, 1)
    assert "own class" in theirs
    assert [n for n in drawn if y[n] == y[0]] == [0, 1, 2, 3]
    assert ours == "never"
    anchor, _, negative = select_triplets(x, y)[:3]
    assert (y[anchor] != y[negative]).all()


@openface.differs("no triplets")
def test_openface_without_triplets(theirs: str, ours: str) -> None:
    x, y = torch.eye(3, requires_grad=True), torch.arange(3)
    assert theirs == "the batch is skipped"
    assert retired.candidates(x.detach(), y, 0.2) == {}
    loss = TripletSemiHardLoss()(x, y)
    assert loss == number(ours)
    assert torch.autograd.grad(loss, x)[0].count_nonzero() == 0


@pytest.mark.parametrize("section", [addons, sandberg, openface], ids=lambda s: s.title)
def test_every_row_is_tested(section: Section) -> None:
    assert section.untested() == []
