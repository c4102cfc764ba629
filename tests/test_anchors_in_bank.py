"""Anchors that stand in their own bank: a part of the batch selects what the whole batch does."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import DISTANCES, NEGATIVES, POSITIVES, UNIFORM
from torch import Tensor

from facenet_ext import mined_triplet_loss, select_triplets

ROWS = 331


def make(labels: str) -> tuple[Tensor, Tensor]:
    """Rows with duplicates and zeros, and labels of runs of rows or scattered ones."""
    g = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, 7, generator=g).mul(2).round()
    x[40] = 0
    x[200:230] = x[:30]
    y = torch.arange(ROWS) // 6
    return x, y if labels == "runs" else y[torch.randperm(ROWS, generator=g)]


def part(x: Tensor, y: Tensor, rows: slice) -> dict[str, Tensor]:
    ids = torch.arange(len(x))
    return {
        "embeddings": x[rows],
        "labels": y[rows],
        "ref_emb": x,
        "ref_labels": y,
        "anchor_ids": ids[rows],
        "ref_ids": ids,
    }


@pytest.mark.parametrize("labels", ["runs", "scattered"])
@pytest.mark.parametrize("rows", [(0, 6), (0, 150), (42, 48), (90, 186), (150, 330), (0, 331)])
def test_part_of_a_batch_selects_as_the_whole(rows: tuple[int, int], labels: str) -> None:
    x, y = make(labels)
    for positives, negatives, distance in itertools.product(POSITIVES, NEGATIVES, DISTANCES):
        rule = {"positives": positives, "negatives": negatives, "distance": distance}
        whole = select_triplets(x, y, **rule)
        own = (whole.anchor >= rows[0]) & (whole.anchor < rows[1])
        got = select_triplets(**part(x, y, slice(*rows)), **rule)
        assert torch.equal(got.anchor + rows[0], whole.anchor[own]), rule
        for name in ("positive", "negative", "d_ap", "d_an"):
            assert torch.equal(getattr(got, name), getattr(whole, name)[own]), (rule, name)


@pytest.mark.parametrize("negatives", UNIFORM)
def test_random_rules_at_the_beginning_of_the_batch(negatives: str) -> None:
    x, y = make("runs")
    torch.manual_seed(3)
    whole = select_triplets(x, y, negatives=negatives, margin=9.0)
    torch.manual_seed(3)
    got = select_triplets(**part(x, y, slice(0, 150)), negatives=negatives, margin=9.0)
    assert torch.equal(got.negative, whole.negative[whole.anchor < 150])


@pytest.mark.parametrize("changed", ["ref_emb", "ref_labels", "ref_ids", "order"])
def test_bank_that_only_looks_like_it_holds_the_anchors(changed: str) -> None:
    x, y = make("runs")
    arguments = part(x, y, slice(90, 186))
    if changed == "order":
        for name in ("embeddings", "labels", "anchor_ids"):
            arguments[name] = arguments[name].flip(0)
    else:
        arguments[changed] = arguments[changed].clone()
        arguments[changed][120] += 1
    expected = mined_triplet_loss(
        **{n: v.double() if v.is_floating_point() else v for n, v in arguments.items()}
    )
    torch.testing.assert_close(
        mined_triplet_loss(**arguments).double(), expected, rtol=1e-6, atol=0
    )
    got = select_triplets(**arguments)
    one_by_one = [
        select_triplets(
            **arguments
            | {n: arguments[n][i : i + 1] for n in ("embeddings", "labels", "anchor_ids")}
        )
        for i in range(96)
    ]
    assert torch.equal(got.negative, torch.cat([t.negative for t in one_by_one]))
    assert torch.equal(got.positive, torch.cat([t.positive for t in one_by_one]))
