"""The loss modules: their options, their presets, and the calling convention they share."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import make_batch

from facenet_ext import functional
from facenet_ext.losses import (
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletSemiHardLoss,
)
from facenet_ext.miners import TripletMiner

DEFAULTS: dict[str, Any] = {
    "margin": 0.2,
    "positives": "all",
    "negatives": "semihard",
    "within_margin": False,
    "fallback": "farthest",
    "distance": "sqeuclidean",
    "cutoff": 0.5,
    "nonzero_loss_cutoff": 1.4,
    "smooth": False,
    "swap": False,
    "reduction": "mean",
}
OTHERS: dict[str, Any] = {
    "margin": 0.75,
    "positives": "hardest",
    "negatives": "hardest",
    "within_margin": True,
    "fallback": "drop",
    "distance": "cosine",
    "cutoff": 1.2,
    "nonzero_loss_cutoff": 1.3,
    "smooth": True,
    "swap": True,
    "reduction": "mean_nonzero",
}
MODULES: list[Callable[[], torch.nn.Module]] = [
    TripletLoss,
    TripletSemiHardLoss,
    TripletHardLoss,
    lambda: TripletLoss(**OTHERS),
    lambda: TripletSemiHardLoss(margin=0.4, distance="euclidean"),
    lambda: TripletHardLoss(margin=0.4, soft=True),
    TripletMarginLoss,
    lambda: TripletMarginLoss(0.4, triplets="semihard", distance="euclidean", reduction="mean"),
]


def test_the_defaults_are_those_of_the_function() -> None:
    x, y = make_batch("quads", 49, 7)
    assert torch.equal(TripletLoss()(x, y), functional.mined_triplet_loss(x, y))


@pytest.mark.parametrize("option", OTHERS)
def test_every_option_reaches_the_function(option: str) -> None:
    """Each option changes the loss of this batch, and to what the function gives."""
    x, y = make_batch("quads", 49, 7)
    # A negative beyond the margin has no loss, and nor has the farthest: only dropping shows.
    dropping = {"margin": 0.01, "fallback": "drop"}
    weighted = {"negatives": "distance_weighted"}
    base = DEFAULTS | {
        "within_margin": dropping,
        "cutoff": weighted,
        "nonzero_loss_cutoff": weighted,
    }.get(option, {})
    options = base | {option: OTHERS[option]}

    def loss_of(function: Callable[..., torch.Tensor], **given: Any) -> torch.Tensor:
        torch.manual_seed(0)  # where something is drawn
        return function(x, y, **given)

    loss = loss_of(TripletLoss(**options))
    assert torch.equal(loss, loss_of(functional.mined_triplet_loss, **options))
    assert loss != loss_of(TripletLoss(**base))


def test_presets() -> None:
    x, y = make_batch("quads", 49, 7)
    mined = functional.mined_triplet_loss
    assert torch.equal(
        TripletSemiHardLoss(margin=0.3)(x, y),
        mined(x, y, 0.3, positives="all", negatives="semihard", fallback="farthest"),
    )
    hard = {"positives": "hardest", "negatives": "hardest"}
    assert torch.equal(TripletHardLoss(margin=0.3)(x, y), mined(x, y, 0.3, **hard))
    assert torch.equal(
        TripletHardLoss(margin=0.3, soft=True)(x, y), mined(x, y, 0.3, smooth=True, **hard)
    )


@pytest.mark.parametrize(("option", "value"), OTHERS.items())
def test_repr_shows_every_option(option: str, value: Any) -> None:
    assert f"{option}={DEFAULTS[option]!r}" in repr(TripletLoss())
    assert f"{option}={value!r}" in repr(TripletLoss(**OTHERS))


def test_repr_of_presets_shows_their_options() -> None:
    semihard, hard = repr(TripletSemiHardLoss(margin=0.3)), repr(TripletHardLoss(0.3, soft=True))
    assert semihard.startswith("TripletSemiHardLoss(")
    assert hard.startswith("TripletHardLoss(")
    for shown in ("margin=0.3", "distance='sqeuclidean'", "reduction='mean'"):
        assert shown in semihard
        assert shown in hard
    assert "soft=True" in hard


@pytest.mark.parametrize("make", MODULES)
def test_pickle_and_deepcopy(make: Callable[[], torch.nn.Module]) -> None:
    x, y = make_batch("quads", 25, 7)
    loss = make()
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert repr(twin) == repr(loss)
        assert torch.equal(twin(x, y), loss(x, y))
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}


# --- loss(embeddings, labels=None, indices_tuple=None, ref_emb=None, ref_labels=None) ------------


@pytest.mark.parametrize("make", MODULES)
def test_an_indices_tuple_replaces_the_selection(make: Callable[[], torch.nn.Module]) -> None:
    x, y = make_batch("quads", 49, 7)
    t = functional.select_triplets(x, y, positives="easiest", fallback="drop")
    indices = tuple(t[:3])
    loss = make()
    expected = loss(x, indices_tuple=indices)
    assert torch.equal(loss(x, y, indices), expected)
    assert torch.equal(loss(x, None, indices), expected)
    assert torch.equal(loss(x, y, t), expected)


def test_an_indices_tuple_gives_the_loss_of_these_triplets() -> None:
    x, y = make_batch("quads", 49, 7)
    c, z = make_batch("quads", 97, 7, seed=1)
    t = functional.select_triplets(x, y, ref_emb=c, ref_labels=z)[:3]
    options = {"distance": "cosine", "smooth": True, "swap": True, "reduction": "sum"}
    expected = functional.triplet_loss(x, t, 0.3, ref_emb=c, **options)
    assert torch.equal(TripletLoss(0.3, **options)(x, y, t, c, z), expected)
    assert torch.equal(TripletLoss(0.3, **options)(x, indices_tuple=t, ref_emb=c), expected)


@pytest.mark.parametrize("make", MODULES)
def test_a_bank_by_position_and_by_name(make: Callable[[], torch.nn.Module]) -> None:
    x, y = make_batch("quads", 49, 7)
    c, z = make_batch("quads", 97, 7, seed=1)
    loss = make()
    by_name = loss(x, y, ref_emb=c, ref_labels=z)
    assert torch.equal(loss(x, y, None, c, z), by_name)
    assert by_name != loss(x, y)


@pytest.mark.parametrize("make", MODULES)
def test_ids_keep_an_item_from_its_own_copy(make: Callable[[], torch.nn.Module]) -> None:
    """So that a batch against itself is self mode, and a batch without positives has no loss."""
    x, y = make_batch("quads", 49, 7)
    loss, ids = make(), {"anchor_ids": torch.arange(49), "ref_ids": torch.arange(49)}
    torch.testing.assert_close(loss(x, y, ref_emb=x, ref_labels=y, **ids), loss(x, y))
    near, different = 0.01 * x, torch.arange(49)
    assert loss(near, different, ref_emb=near, ref_labels=different, **ids) == 0
    assert loss(near, different, ref_emb=near, ref_labels=different) > 0


@pytest.mark.parametrize("make", MODULES)
def test_the_loss_trains(make: Callable[[], torch.nn.Module]) -> None:
    """Twenty steps on a small batch lower the loss."""
    x, y = make_batch("quads", 40, 7)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = make()(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_loss_and_miner_drop_into_pytorch_metric_learning() -> None:
    """It calls both with every argument of the convention."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    x, y = make_batch("quads", 32, 7)
    loss = TripletSemiHardLoss(margin=0.2)
    hard = TripletMiner(positives="hardest", negatives="hardest")
    several = losses.MultipleLosses([loss, loss], miners=[None, hard], weights=[1.0, 0.5])
    expected = loss(x, y) + 0.5 * loss(x, y, hard(x, y))
    torch.testing.assert_close(several(x, y), expected)


def test_the_main_names_are_importable_from_the_package() -> None:
    import facenet_ext

    for name in (
        "TripletHardLoss",
        "TripletLoss",
        "TripletMiner",
        "TripletSemiHardLoss",
        "mined_triplet_loss",
        "pairwise_squared_distance",
        "select_triplets",
        "triplet_loss",
    ):
        assert hasattr(facenet_ext, name), name


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_counting_tells_of_the_triplets_of_all_calls_within(
    reduction: str, smooth: bool, swap: bool
) -> None:
    x, y = make_batch("quads", 25, 7)
    loss = TripletLoss(0.3, reduction=reduction, smooth=smooth, swap=swap)
    hinges = functional.mined_triplet_loss(x, y, 0.3, swap=swap, reduction="none")
    active, selected = int((hinges > 0).sum()), hinges.numel()
    assert 0 < active < selected
    with loss.counting() as counts:
        inside = [loss(x, y) for _ in range(2)]
    assert (counts.active, counts.selected) == (2 * active, 2 * selected)
    assert counts.share == active / selected
    assert torch.equal(inside[0], loss(x, y))
    assert counts.selected == 2 * selected
