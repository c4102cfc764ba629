"""docs/migration.md: sentence-transformers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from migration_table import Section, number, shown
from side_by_side import LONE_ANCHOR, NO_NEGATIVES, batch, compare, on_batches
from torch import Tensor

import facenet_ext.sentence_transformers as ours_module
from facenet_ext import TripletHardLoss, TripletSemiHardLoss
from facenet_ext.sentence_transformers import (
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
)

losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

section = Section("sentence-transformers")
Distance = losses.BatchHardTripletLossDistanceFunction


class Given(torch.nn.Module):
    """A model whose sentence embeddings are given as its features."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["x"]}


def names(x: Tensor, y: Tensor) -> dict[str, Any]:
    return {name: getattr(ours_module, name) for name in ours_module.__all__} | {
        "losses": losses,
        "cosine_distance": Distance.cosine_distance,
        "euclidean_distance": Distance.euclidean_distance,
        "model": Given(),
        "features": [{"x": x}],
    }


@on_batches
@pytest.mark.parametrize(("theirs", "ours"), section.calls())
def test_the_same_value(theirs: str, ours: str, kind: str) -> None:
    compare(theirs, ours, kind, names)


@pytest.mark.parametrize("name", [name for name in ours_module.__all__ if hasattr(losses, name)])
def test_the_same_arguments_and_defaults(name: str) -> None:
    theirs, ours = (
        inspect.signature(getattr(module, name)).parameters for module in (losses, ours_module)
    )
    assert list(ours) == list(theirs)
    configs = [getattr(module, name)(Given()).get_config_dict() for module in (losses, ours_module)]
    configs[0]["distance_metric"] = configs[0]["distance_metric"].removesuffix("_distance")
    assert configs[0] == configs[1]


@section.differs("default margin")
def test_margin(theirs: str, ours: str) -> None:
    assert losses.BatchSemiHardTripletLoss(Given()).margin == number(theirs)
    assert losses.BatchHardTripletLoss(Given()).triplet_margin == number(theirs)
    assert TripletSemiHardLoss().margin == TripletHardLoss().margin == number(ours)


@section.differs("semi-hard, no negatives")
def test_semihard_without_negatives(theirs: str, ours: str) -> None:
    x, y = NO_NEGATIVES
    assert shown(losses.BatchSemiHardTripletLoss(Given())([{"x": x}], y), theirs)
    assert shown(BatchSemiHardTripletLoss(Given())([{"x": x}], y), ours)


@section.differs("hard, no negatives")
def test_hard_without_negatives(theirs: str, ours: str) -> None:
    x, y = NO_NEGATIVES
    assert shown(losses.BatchHardTripletLoss(Given())([{"x": x}], y), theirs)
    assert shown(BatchHardTripletLoss(Given())([{"x": x}], y), ours)


@section.differs("hard, anchor without a positive")
def test_lone_anchor(theirs: str, ours: str) -> None:
    x, y = LONE_ANCHOR
    assert shown(losses.BatchHardTripletLoss(Given(), margin=2.5)([{"x": x}], y), theirs)
    assert shown(BatchHardTripletLoss(Given(), margin=2.5)([{"x": x}], y), ours)


@section.differs("labels that are not integers")
def test_labels(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    assert theirs == "taken"
    loss = losses.BatchSemiHardTripletLoss(Given())
    assert loss([{"x": x}], y.double()) == loss([{"x": x}], y)
    assert ours == "TypeError"
    with pytest.raises(TypeError, match="labels: expected integers"):
        BatchSemiHardTripletLoss(Given())([{"x": x}], y.double())


@section.differs("a distance function of one's own")
def test_own_distance(theirs: str, ours: str) -> None:
    def cosine_distance(x: Tensor) -> Tensor:  # not theirs, whatever its name
        return torch.cdist(x, x, p=1)

    x, y = batch("gaussian")
    assert theirs == "taken"
    assert losses.BatchSemiHardTripletLoss(Given(), cosine_distance)([{"x": x}], y) > 0
    assert ours == "ValueError"
    with pytest.raises(ValueError, match="distance_metric: expected one of 'sqeuclidean'"):
        BatchSemiHardTripletLoss(Given(), cosine_distance)
    with pytest.raises(ValueError, match=r"distance_metric: .*got 'manhattan'"):
        BatchSemiHardTripletLoss(Given(), "manhattan")


@section.differs("the model that the trainer wraps")
def test_wrapped_model(theirs: str, ours: str) -> None:
    """The trainer replaces the attribute `model` (test_sentence_transformers.py runs it)."""
    assert "not put" in theirs
    assert not hasattr(losses.BatchSemiHardTripletLoss(Given()), "model")
    assert "`model`" in ours
    assert hasattr(BatchSemiHardTripletLoss(Given()), "model")


def test_every_row_is_tested() -> None:
    assert section.untested() == []
