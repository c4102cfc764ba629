"""TripletMiner is select_triplets as a module."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from helpers import assert_same_triplets, make_batch

from facenet_ext.functional import select_triplets
from facenet_ext.losses import TripletLoss
from facenet_ext.miners import TripletMiner

OPTIONS: list[dict[str, Any]] = [
    {},
    {"positives": "hardest", "negatives": "hardest", "distance": "cosine"},
    {"positives": "easiest", "fallback": "drop", "distance": "euclidean"},
    {"margin": 0.05, "within_margin": True, "fallback": "drop"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_selects_what_the_function_selects(options: dict[str, Any]) -> None:
    x, y = make_batch("quads", 49, 7)
    indices = TripletMiner(**options)(x, y)
    assert len(indices) == 3
    assert_same_triplets(indices, select_triplets(x, y, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_a_bank(options: dict[str, Any]) -> None:
    x, y = make_batch("quads", 49, 7)
    c, z = make_batch("quads", 97, 7, seed=1)
    expected = select_triplets(x, y, ref_emb=c, ref_labels=z, **options)
    assert_same_triplets(TripletMiner(**options)(x, y, c, z), expected)
    assert_same_triplets(TripletMiner(**options)(x, y, ref_emb=c, ref_labels=z), expected)


def test_ids_keep_an_item_from_its_own_copy() -> None:
    x, y = make_batch("quads", 49, 7)
    bank = {"ref_emb": x, "ref_labels": y}
    ids = {"anchor_ids": torch.arange(49), "ref_ids": torch.arange(49)}
    assert_same_triplets(TripletMiner()(x, y, **bank, **ids), TripletMiner()(x, y))
    anchor, positive, _ = TripletMiner()(x, y, **bank)
    assert (anchor == positive).any()


def test_miner_and_loss_together_are_the_mined_loss() -> None:
    x, y = make_batch("quads", 49, 7)
    loss = TripletLoss(margin=0.3, negatives="hardest")
    mined = TripletMiner(negatives="hardest")(x, y)
    torch.testing.assert_close(loss(x, y, mined), loss(x, y))


def test_the_miner_feeds_pytorch_metric_learning() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    x, y = make_batch("quads", 49, 7)
    mined = TripletMiner()(x, y)
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    theirs = losses.TripletMarginLoss(margin=0.2, distance=squared)(x, y, mined)
    ours = TripletLoss(margin=0.2, reduction="mean_nonzero")(x, y, mined)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_repr_pickle_and_deepcopy(options: dict[str, Any]) -> None:
    miner = TripletMiner(**options)
    shown = {
        "positives": "all",
        "negatives": "semihard",
        "margin": 0.2,
        "within_margin": False,
        "fallback": "farthest",
        "distance": "sqeuclidean",
        "cutoff": 0.5,
        "nonzero_loss_cutoff": 1.4,
    } | options
    assert repr(miner).startswith("TripletMiner(")
    for name, value in shown.items():
        assert f"{name}={value!r}" in repr(miner)
    for twin in (pickle.loads(pickle.dumps(miner)), copy.deepcopy(miner)):
        assert repr(twin) == repr(miner)
