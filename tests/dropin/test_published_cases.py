"""The cases that other libraries publish as tests of their triplet losses and miners.

Their batches are made anew and their results computed here, in plain loops: TensorFlow-Addons'
tests of triplet losses, pytorch-metric-learning's of TripletMarginLoss, TripletMarginMiner and the
batch hard miner, sentence-transformers' of batch hard and batch all. Where a library defines
another result, docs/migration.md names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import made_on_cpu
from tolerances import assert_distances_close, assert_loss_close
from torch import Tensor

from facenet_ext import (
    TripletHardLoss,
    TripletMarginLoss,
    TripletMiner,
    TripletSemiHardLoss,
    functional,
    pairwise_squared_distance,
)

LOW_PRECISION = (torch.float16, torch.bfloat16)


def distances(x: Tensor, distance: str) -> list[list[float]]:
    """All distances, entry by entry in Python's floats."""
    rows = x.double().tolist()
    if distance == "cosine":
        rows = [[value / math.hypot(*row) for value in row] for row in rows]
        return [[1.0 - sum(map(math.prod, zip(u, v, strict=True))) for v in rows] for u in rows]
    power = 2 if distance == "sqeuclidean" else 1
    return [[math.dist(u, v) ** power for v in rows] for u in rows]


def assert_loss(loss: Tensor, expected: float, x: Tensor, margin: float, count: int = 1) -> None:
    """The loss is right, on the scale of its summands; of a sum, of all `count` of them."""
    scale = count * (margin + 8 * float(x.double().square().sum(1).max()))
    assert_loss_close(loss.detach(), torch.tensor(expected, dtype=torch.float64), x.dtype, scale)


def triplets(y: list[int]) -> list[tuple[int, int, int]]:
    """Every (a, p, n) with a and p different rows of a class, and n of another class."""
    rows = range(len(y))
    return [
        (a, p, n)
        for a in rows
        for p in rows
        for n in rows
        if a != p and y[a] == y[p] and y[a] != y[n]
    ]


def semihard(d: list[list[float]], y: list[int], margin: float) -> float:
    """The mean over pairs; the closest negative beyond the positive, or the farthest of all."""
    hinges = []
    for a, p in dict.fromkeys((a, p) for a, p, _ in triplets(y)):
        negative = [d[a][n] for n in range(len(y)) if y[n] != y[a]]
        beyond = [d_an for d_an in negative if d_an > d[a][p]]
        d_an = min(beyond) if beyond else max(negative)
        hinges.append(max(0.0, d[a][p] - d_an + margin))
    return sum(hinges) / len(hinges)


def hard(d: list[list[float]], y: list[int], margin: float, soft: bool) -> float:
    """The mean over anchors of the farthest positive against the closest negative."""
    losses = []
    for a in dict.fromkeys(a for a, _, _ in triplets(y)):
        d_ap = max(d[a][p] for p in range(len(y)) if y[p] == y[a] and p != a)
        d_an = min(d[a][n] for n in range(len(y)) if y[n] != y[a])
        losses.append(math.log1p(math.exp(d_ap - d_an)) if soft else max(0.0, d_ap - d_an + margin))
    return sum(losses) / len(losses)


@made_on_cpu
def uniform(n: int, dim: int, classes: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """Rows uniform in the unit cube with labels at random, each of them at least twice."""
    generator = torch.Generator().manual_seed(seed)
    others = torch.randint(classes, (n - 2 * classes,), generator=generator)
    y = torch.cat([torch.arange(classes).repeat(2), others])
    order = torch.randperm(n, generator=generator)
    return torch.rand(n, dim, generator=generator).to(dtype), y[order]


on_distances = pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean", "cosine"])


# --- TensorFlow-Addons: random batches of 10 and 20, six dimensions, four classes, margin 1 -------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, *LOW_PRECISION], ids=str)
@on_distances
def test_addons_semihard(distance: str, dtype: torch.dtype, seed: int) -> None:
    x, y = uniform(10, 6, 4, dtype, seed)
    loss = TripletSemiHardLoss(margin=1.0, distance=distance)(x, y)
    assert_loss(loss, semihard(distances(x, distance), y.tolist(), 1.0), x, 1.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, *LOW_PRECISION], ids=str)
@on_distances
def test_addons_hard(distance: str, dtype: torch.dtype, soft: bool, seed: int) -> None:
    x, y = uniform(20, 6, 4, dtype, seed)
    margin = 0.0 if soft else 1.0
    loss = TripletHardLoss(margin, soft=soft, distance=distance)(x, y)
    assert_loss(loss, hard(distances(x, distance), y.tolist(), margin, soft), x, margin)


# --- pytorch-metric-learning: points on the unit circle -------------------------------------------


def on_circle(degrees: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1).to(dtype)


FIVE = [0.0, 20.0, 40.0, 60.0, 80.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero"])
def test_five_points_and_all_their_triplets(reduction: str, dtype: torch.dtype) -> None:
    """Twelve triplets of two pairs and a single row; the margin of 0.2 leaves some satisfied."""
    x, y = on_circle(FIVE, dtype), [0, 0, 1, 1, 2]
    d = distances(x, "euclidean")
    hinges = [max(0.0, d[a][p] - d[a][n] + 0.2) for a, p, n in triplets(y)]
    above = [h for h in hinges if h > 0]
    assert len(hinges) == 12
    assert 0 < len(above) < 12
    expected = sum(hinges) / len(above if reduction == "mean_nonzero" else hinges)
    indices = tuple(torch.tensor(triplets(y)).unbind(1))
    loss = TripletMarginLoss(0.2, distance="euclidean", reduction=reduction)
    assert_loss(loss(x, torch.tensor(y)), expected, x, 0.2)
    assert_loss(loss(x, indices_tuple=indices), expected, x, 0.2)


@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero"])
def test_five_points_of_five_classes_have_no_triplets(reduction: str) -> None:
    x = on_circle(FIVE).requires_grad_()
    loss = TripletMarginLoss(0.2, distance="euclidean", reduction=reduction)(x, torch.arange(5))
    assert loss == 0
    loss.backward()
    assert x.grad is not None
    assert not x.grad.any()


NINE = [0, 0, 1, 1, 0, 2, 1, 1, 1]
MADE: dict[str, Callable[[torch.dtype], Tensor]] = {
    "a line": lambda dtype: torch.arange(9).unsqueeze(1).to(dtype),
    "an arc": lambda dtype: on_circle([20.0 * i for i in range(9)], dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("made", "distance"),
    [
        ("a line", "sqeuclidean"),
        ("a line", "euclidean"),
        ("an arc", "sqeuclidean"),
        ("an arc", "euclidean"),
        ("an arc", "cosine"),
    ],
)
def test_nine_points_batch_hard(made: str, distance: str, dtype: torch.dtype) -> None:
    """Anchor 4 has two closest negatives, at one step: on the line, where that is exact, 3."""
    x = MADE[made](dtype)
    miner = TripletMiner(positives="hardest", negatives="hardest", distance=distance)
    a, p, n = miner(x, torch.tensor(NINE))
    assert a.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]  # 5 is alone in its class
    assert p.tolist() == [4, 4, 8, 8, 0, 2, 2, 2]
    closest = n.tolist()
    assert closest.pop(4) in ((3,) if made == "a line" else (3, 5))
    assert closest == [2, 2, 1, 4, 5, 5, 5]


@pytest.mark.parametrize("positives", ["all", "hardest", "easiest"])
@pytest.mark.parametrize("negatives", ["semihard", "hardest"])
@on_distances
def test_batches_without_pairs_are_mined_empty(
    positives: str, negatives: str, distance: str
) -> None:
    x = torch.randn(32, 64, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    miner = TripletMiner(positives=positives, negatives=negatives, distance=distance)
    assert [len(index) for index in miner(x, torch.arange(32, device="cpu"))] == [0, 0, 0]


def sixteen_points(seed: int, distance: str) -> tuple[Tensor, list[int], list[list[float]]]:
    """Of a quarter of the circle, in two classes at random; no two distances are equal."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (16,), generator=generator).tolist()
    x = on_circle((90.0 * torch.rand(16, generator=generator)).tolist())
    return x, y, distances(x, distance)


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_sixteen_points_of_two_classes_within_the_margin(distance: str, step: int) -> None:
    """Margins from 0 to 0.55: a pair keeps its closest negative inside the margin, if any."""
    margin = 0.05 * step + 0.001
    x, y, d = sixteen_points(step, distance)
    gaps = {(a, p, n): d[a][n] - d[a][p] for a, p, n in triplets(y)}
    inside = {t for t, gap in gaps.items() if 0 < gap < margin}
    miner = TripletMiner(margin, within_margin=True, fallback="drop", distance=distance)
    mined = list(zip(*(index.tolist() for index in miner(x, torch.tensor(y))), strict=True))
    assert {t[:2] for t in mined} == {t[:2] for t in inside}
    for a, p, n in mined:
        assert gaps[a, p, n] == min(gaps[t] for t in inside if t[:2] == (a, p))


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("kind", ["all", "hard", "semihard", "easy"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_sixteen_points_by_kind_of_triplet(distance: str, kind: str, step: int) -> None:
    """Margins from 0 to 0.55; softplus, whose mean tells how many triplets there are."""
    margin = 0.05 * step
    x, y, d = sixteen_points(step, distance)
    gaps = [d[a][n] - d[a][p] for a, p, n in triplets(y)]
    of_kind = {
        "all": gaps,
        "hard": [gap for gap in gaps if gap <= 0],
        "semihard": [gap for gap in gaps if 0 < gap <= margin],
        "easy": [gap for gap in gaps if gap > margin],
    }[kind]
    hinges = [max(0.0, margin - gap) for gap in of_kind]
    smooth = [math.log1p(math.exp(margin - gap)) for gap in of_kind]
    for is_smooth, losses in ((False, hinges), (True, smooth)):
        options = {"triplets": kind, "distance": distance, "smooth": is_smooth}
        total = TripletMarginLoss(margin, reduction="sum", **options)(x, torch.tensor(y))
        assert_loss(total, sum(losses), x, margin, len(gaps))
        mean = TripletMarginLoss(margin, reduction="mean", **options)(x, torch.tensor(y))
        assert_loss(mean, sum(losses) / max(len(losses), 1), x, margin)


# --- sentence-transformers: batch hard and batch all ----------------------------------------------


def test_distances_of_64_rows_two_of_them_equal() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    x[1] = x[0]
    d = pairwise_squared_distance(x)
    assert d[0, 1] == d[1, 0] == 0
    expected = torch.tensor(distances(x, "sqeuclidean"), dtype=torch.float64)
    assert_distances_close(d, expected, x.dtype)


def test_distances_of_rows_that_differ_in_the_last_digit_are_not_negative() -> None:
    """And right, where the Gram matrix leaves nothing of them."""
    x = 1.0 + 2e-7 * torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    x[1] = x[0]
    d = pairwise_squared_distance(x)
    assert (d >= 0).all()
    expected = torch.tensor(distances(x, "sqeuclidean"), dtype=torch.float64)
    assert_distances_close(d, expected, x.dtype)


@pytest.mark.parametrize("make_loss", [TripletSemiHardLoss, TripletHardLoss, TripletMarginLoss])
@on_distances
def test_one_class_has_no_loss(make_loss: Callable[..., Any], distance: str) -> None:
    x = torch.rand(10, 6, generator=torch.Generator().manual_seed(0))
    loss = make_loss(0.2, distance=distance)(x, torch.zeros(10, dtype=torch.int64))
    assert loss == 0


@pytest.mark.parametrize("seed", range(5))
@on_distances
def test_batch_hard_of_50_rows_with_labels_from_100(distance: str, seed: int) -> None:
    x, y = uniform(50, 6, 5, torch.float32, seed)
    y = y + 100
    loss = TripletHardLoss(0.2, distance=distance)(x, y)
    assert_loss(loss, hard(distances(x, distance), y.tolist(), 0.2, soft=False), x, 0.2)


@pytest.mark.parametrize("seed", range(5))
@on_distances
def test_batch_all_of_10_rows(distance: str, seed: int) -> None:
    """The mean over the triplets whose hinge is above 0, and how many these are."""
    x, y = uniform(10, 6, 5, torch.float32, seed)
    d = distances(x, distance)
    every = triplets(y.tolist())
    hinges = [max(0.0, d[a][p] - d[a][n] + 0.2) for a, p, n in every]
    above = sum(h > 0 for h in hinges)
    loss = TripletMarginLoss(0.2, distance=distance)(x, y)
    assert_loss(loss, sum(hinges) / above, x, 0.2)
    indices = tuple(torch.tensor(every).unbind(1))
    each = functional.triplet_loss(x, indices, 0.2, distance=distance, reduction="none")
    assert int((each > 0).sum()) == above
