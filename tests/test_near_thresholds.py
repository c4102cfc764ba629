"""Negatives at a positive's distance or next to it, where the products of a search decide nothing.

A search on a GPU measures such pairs by differences. How many of them wait for that, and in which
order they come, may change no bit. The emulation (docs/emulation.md) varies both.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from helpers import (
    DISTANCES,
    assert_same_triplets,
    assert_valid_selection,
    made_on_cpu,
    make_batch,
)
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
    """Of small integers most positives have a negative as far as they are: it never qualifies."""
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


@made_on_cpu
def near_parallel(sign: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Classes of two whose rows lie around `sign` times each other, 16 classes to a place.

    One column has most of a row's length, so that sums of products are large from the first step
    on. Distances from a row to those of its place, and to those opposite, differ by some 1e-4 and
    less.
    """
    generator = torch.Generator().manual_seed(dim)
    places, classes = 4, 16
    size = torch.rand(dim, generator=generator, dtype=torch.float64) + 0.5
    size[0] = 2 * size.norm()
    signs = torch.randint(0, 2, (places, dim), generator=generator) * 2 - 1
    around = (signs * size / size.norm()).repeat_interleave(classes, dim=0)
    noise = torch.randn(2, *around.shape, generator=generator, dtype=torch.float64)
    across = 4e-3 / dim**0.5 * (noise - (noise * around).sum(2, keepdim=True) * around)
    first, second = around * (1 + 3e-5 * noise[:, :, :1]) + across
    return torch.cat([first, sign * second]).to(dtype), torch.arange(places * classes).repeat(2)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype", SINGLE_AND_HALF)
@pytest.mark.parametrize("dim", [64, 256, 1024])
@pytest.mark.parametrize("sign", [1, -1])
def test_near_parallel_rows(sign: int, dim: int, dtype: torch.dtype, distance: str) -> None:
    """Their products lose a part for each step of the matrix units, all to the same side.

    Distances come out too large by it, or of opposite rows too small: closer than the positive
    though they are farther. A column of zeros changes no distance, but rows of such a length are
    searched by differences.
    """
    x, y = near_parallel(sign, dim, dtype)
    odd = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
    by_products, by_differences = (
        select_triplets(rows, y, distance=distance, fallback="drop") for rows in (x, odd)
    )
    assert len(by_products.anchor) > len(x) / 4
    assert_same_triplets(by_products, by_differences)
