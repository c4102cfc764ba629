"""Negatives at a positive's distance or next to it, where the products of a search decide nothing.

A search on a GPU measures such pairs by differences. How many of them wait for that, and in which
order they come, may change no bit. The emulation (docs/emulation.md) varies both.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from helpers import DISTANCES, assert_same_triplets, assert_valid_selection, make_batch
from torch import Tensor

from facenet_ext import reference
from facenet_ext.functional import select_triplets

SINGLE_AND_HALF = (torch.float32, torch.bfloat16, torch.float16)
EMULATED = "FACENET_EMULATED_LIBRARY" in os.environ


def in_every_order(
    monkeypatch: pytest.MonkeyPatch, x: Tensor, y: Tensor, **options: Any
) -> list[tuple[Tensor, ...]]:
    """The selection, with 0 to 32 pairs of a warp that may wait, and blocks in other orders."""
    found = []
    for seed, waiting in enumerate((31, 0, 1, 5, 32) if EMULATED else (31, 31)):
        monkeypatch.setenv("FACENET_EMULATED_MOST_WAITING", str(waiting))
        monkeypatch.setenv("FACENET_EMULATED_SEED", str(seed))
        found.append(select_triplets(x, y, **options))
    return found


@pytest.mark.parametrize("dtype", SINGLE_AND_HALF)
@pytest.mark.parametrize(("layout", "n"), [("quads", 130), ("halves", 130)])
def test_negatives_at_the_distance_of_a_positive(
    layout: str, n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of small integers most positives have a negative at their own distance: it never qualifies."""
    x, y = make_batch(layout, n, 64, dtype, "integers")
    x = x.sign()
    expected = reference.select_triplets(x, y)
    ties = reference.pairwise_distance(x)[expected.anchor] == expected.d_ap.unsqueeze(1)
    assert (ties & (y != y[expected.anchor].unsqueeze(1))).any(1).double().mean() > 0.7
    for actual in in_every_order(monkeypatch, x, y):
        assert_same_triplets(actual, expected)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype", SINGLE_AND_HALF)
@pytest.mark.parametrize("layout", ["quads", "uneven"])
def test_rows_at_random(
    layout: str, dtype: torch.dtype, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many columns: distances are so much alike that products tell few of them apart."""
    x, y = make_batch(layout, 150, 1024, dtype)
    first, *others = in_every_order(monkeypatch, x, y, distance=distance)
    assert_valid_selection(first, x, y, distance=distance)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
