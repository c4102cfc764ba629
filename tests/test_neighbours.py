"""The closest rows and pairs within a radius, against all distances sorted."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import made_on_cpu, random_like
from torch import Tensor

from facenet_ext import reference
from facenet_ext.neighbours import nearest, within

DISTANCES = ("sqeuclidean", "euclidean", "cosine")


@made_on_cpu
def grid(seed: int, rows: int, dim: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows on a grid: many distances are equal, and squares are exact in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (rows, dim), generator=generator).to(dtype) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (2, None, 1),
        (49, None, 48),
        (130, None, 7),
        (97, 50, 50),
        (1, 1, 1),
        (65, 200, 129),
        (3, 300, 2),
        (5, 3000, 40),
        (2, 2000, 700),
    ],
)
def test_nearest_are_the_first_of_all_sorted(
    dtype: torch.dtype, m: int, n: int | None, k: int
) -> None:
    x = grid(m, m, dtype=dtype)
    y = None if n is None else grid(1 + n, n, dtype=dtype)
    found = nearest(x, k, ref_emb=y)
    expected, rows = reference.nearest(x, k, y)
    assert torch.equal(found.indices, rows)
    assert torch.equal(found.distances.double(), expected)
    assert found.distances.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("others", [None, 333])
def test_nearest_by_every_distance(distance: str, others: int | None) -> None:
    x = random_like(torch.empty(150, 33), torch.randn, 5)
    y = None if others is None else random_like(torch.empty(others, 33), torch.randn, 6)
    found = nearest(x, 10, ref_emb=y, distance=distance)
    expected, rows = reference.nearest(x, 10, y, distance)
    assert torch.equal(found.indices, rows)
    torch.testing.assert_close(found.distances.double(), expected, rtol=1e-5, atol=1e-6)


def test_rows_that_are_all_equal_are_taken_in_order() -> None:
    found = nearest(torch.ones(200, 5), 20)
    expected = [[j for j in range(21) if j != i][:20] for i in range(200)]
    assert found.indices.tolist() == expected
    assert not found.distances.any()


@pytest.mark.parametrize("order", ["falling", "rising", "to and fro", "infinite first"])
@pytest.mark.parametrize("k", [1, 33, 500])
def test_candidates_that_come_in_an_order(order: str, k: int) -> None:
    y = torch.arange(2001.0).unsqueeze(1)
    if order == "falling":
        y = y.flip(0)
    elif order == "to and fro":
        y[::2] = y[::2].flip(0)
    elif order == "infinite first":
        y[:1000] = math.inf
    x = torch.zeros(3, 1)
    found = nearest(x, k, ref_emb=y)
    expected, rows = reference.nearest(x, k, y)
    assert torch.equal(found.indices, rows)
    assert torch.equal(found.distances.double(), expected)


def test_infinite_distances_are_neighbours_too_but_nan_is_none() -> None:
    x = torch.tensor([[0.0], [math.inf], [1.0]])
    found = nearest(torch.zeros(1, 1), 3, ref_emb=x)
    assert found.indices.tolist() == [[0, 2, 1]]
    assert found.distances.tolist() == [[0.0, 1.0, math.inf]]
    x[2] = math.nan
    assert nearest(torch.zeros(1, 1), 2, ref_emb=x).indices.tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="got NaN among the distances of row 0"):
        nearest(torch.zeros(1, 1), 3, ref_emb=x)


def test_rows_of_zeros_are_at_cosine_distance_one() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    found = nearest(x, 3, distance="cosine")
    assert found.indices[0].tolist() == [1, 2, 3]
    assert found.distances[0].tolist() == [1.0] * 3
    assert found.indices[1].tolist() == [3, 0, 2]
    pairs = within(x, 1.0, distance="cosine")
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 3),
    ]  # fmt: skip


def test_nothing_to_look_for_and_nothing_to_look_at() -> None:
    assert nearest(torch.empty(0, 4), 3, ref_emb=torch.ones(5, 4)).indices.shape == (0, 3)
    assert nearest(torch.ones(3, 0), 2).indices.tolist() == [[1, 2], [0, 2], [0, 1]]
    for x, y in (
        (torch.empty(0, 4), None),
        (torch.ones(1, 4), None),
        (torch.empty(0, 4), torch.ones(2, 4)),
    ):
        assert len(within(x, 1.0, ref_emb=y).first) == 0


@pytest.mark.parametrize("distance", DISTANCES[:2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "others"), [(1, None), (49, None), (200, None), (97, 130), (3, 1)]
)
@pytest.mark.parametrize("radius", [0, 1.0, 2.0, 100.0])
def test_pairs_within_are_those_of_all(
    distance: str, dtype: torch.dtype, rows: int, others: int | None, radius: float
) -> None:
    x = grid(rows, rows, 6, dtype)
    y = None if others is None else grid(1 + others, others, 6, dtype)
    found = within(x, radius, ref_emb=y, distance=distance)
    first, second, distances = reference.within(x, radius, y, distance)
    assert torch.equal(found.first, first)
    assert torch.equal(found.second, second)
    torch.testing.assert_close(found.distances.double(), distances)


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = grid(1, 100), grid(2, 70)
    whole = [within(x, 3.0), within(x, 3.0, ref_emb=y)]
    monkeypatch.setattr("facenet_ext.neighbours._BLOCK", 32)
    told: list[tuple[int, int]] = []
    parts = [
        within(x, 3.0, progress=lambda *told_now: told.append(told_now)),
        within(x, 3.0, ref_emb=y),
    ]
    for one, other in zip(whole, parts, strict=True):
        assert len(one.first) > 32, "each block has more pairs than room at first"
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert told[-1] == (4950, 4950)
    assert told == sorted(told)


def test_a_capacity_too_small_still_counts_all() -> None:
    operator = torch.ops.facenet_ext.pairs_within
    x = torch.ones(100, 3)
    pairs, distances, count = operator(x, None, 0.5, "sqeuclidean", 7)
    assert int(count) == 4950
    assert pairs.shape == (7, 2)
    assert not distances.any()
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    assert len(set(map(tuple, pairs.tolist()))) == 7
    assert int(operator(x, None, 0.5, "sqeuclidean", 0)[2]) == 4950


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nearest(x, 0), "k: expected 1 to 1024, got 0"),
        (lambda x: nearest(x, 2000), "k: expected 1 to 1024, got 2000"),
        (lambda x: nearest(x, True), "k: expected 1 to 1024, got True"),
        (lambda x: nearest(x, 4), "k: expected at most the 3 candidates, got 4"),
        (lambda x: nearest(x[:1], 1), "k: expected at most the 0 candidates, got 1"),
        (lambda x: nearest(x, 9, ref_emb=x), "k: expected at most the 4 candidates, got 9"),
        (lambda x: nearest(x[0]), "embeddings: expected a matrix"),
        (lambda x: nearest(x, ref_emb=x[:, :2]), "ref_emb: expected 3 columns as embeddings has"),
        (lambda x: nearest(x, distance="manhattan"), "distance: expected one of 'sqeuclidean'"),
        (lambda x: nearest(x.to("meta")), "embeddings: expected values"),
        (lambda x: within(x, -1.0), "radius: expected a number from 0, got -1.0"),
        (lambda x: within(x, math.nan), "radius: expected a number from 0, got nan"),
        (lambda x: within(x, "1"), "radius: expected a number from 0, got '1'"),
        (lambda x: within(x, 1, distance="l2"), "distance: expected one of"),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(4, 3))  # type: ignore[operator]


def test_integers_are_no_embeddings() -> None:
    for call in (lambda x: nearest(x, 1), lambda x: within(x, 1.0)):
        with pytest.raises(TypeError, match="embeddings: expected float32"):
            call(torch.ones(4, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3), None, 0, "cosine"), "k: expected 1 to 1024, got 0"),
        ((torch.ones(2, 3), torch.ones(2, 4), 1, "cosine"), "ref_emb: expected 3 columns"),
        ((torch.ones(2), None, 1, "cosine"), "emb: expected a matrix"),
        ((torch.ones(2, 3), None, 1, "far"), "distance"),
    ],
)
def test_the_operator_checks_for_itself(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.facenet_ext.nearest(*arguments)
    x = torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="capacity: expected 0 to"):
        torch.ops.facenet_ext.pairs_within(x, None, 1.0, "cosine", -1)


def test_any_number_of_threads_finds_the_same(cpu_only: None, set_threads: object) -> None:
    x = grid(7, 500)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)  # type: ignore[operator]
        found.append((*nearest(x, 30), *within(x, 2.0)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
