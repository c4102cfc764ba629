"""Neighbours, close pairs and counts of pairs by several processes: exactly those of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run
from torch import Tensor

import facenet_ext._pair_ranks as pair_ranks
from facenet_ext import _claims
from facenet_ext.all_pairs import distance_histogram, val_far_all_pairs, val_far_over_splits
from facenet_ext.common.processes import everyone
from facenet_ext.neighbours import nearest, within


def rows(count: int, dim: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows with many duplicates, so that there are ties wherever the rows are cut."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator).to(dtype)
    if count:
        x[torch.randint(count, (count // 2,), generator=generator)] = x[0].clone()
    return x


def cut(x: Tensor, sizes: list[int]) -> Tensor:
    return x.split(sizes)[dist.get_rank()]


def nearest_of_all_ranks(
    probes: list[int], gallery: list[int] | None, k: int, dtype: torch.dtype, distance: str
) -> list[Tensor]:
    mine = cut(rows(sum(probes), dtype=dtype), probes)
    ref_emb = None if gallery is None else cut(rows(sum(gallery), seed=0, dtype=dtype), gallery)
    return list(nearest(mine, k, ref_emb=ref_emb, distance=distance, group=everyone()))


@pytest.mark.parametrize(
    ("probes", "gallery", "k"),
    [
        ([40, 40], [50, 50], 7),
        ([0, 30, 5], [90, 0, 3], 60),
        ([20, 1, 0, 30], [2, 100, 1, 0], 103),
        ([30, 0, 1, 45], None, 50),
        ([2, 1], None, 2),
        ([0, 0], [3, 4], 1),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "distance"),
    [(torch.float32, "sqeuclidean"), (torch.float64, "cosine"), (torch.bfloat16, "euclidean")],
)
def test_gallery_that_is_cut(
    probes: list[int], gallery: list[int] | None, k: int, dtype: torch.dtype, distance: str
) -> None:
    found = run(len(probes), nearest_of_all_ranks, probes, gallery, k, dtype, distance)
    ref_emb = None if gallery is None else rows(sum(gallery), dtype=dtype)
    expected = nearest(rows(sum(probes), dtype=dtype), k, ref_emb=ref_emb, distance=distance)
    for ours, theirs in zip(zip(*found, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(ours), theirs)


def nearest_of_something_wrong(what: str) -> str:
    odd = dist.get_rank() == 1
    x, k, ref_emb = rows(10), 3, rows(20)
    if what == "k":
        k += odd
    elif what == "dim" and odd:
        x, ref_emb = x[:, 1:], ref_emb[:, 1:]
    elif what == "dtype" and odd:
        x, ref_emb = x.double(), ref_emb.double()
    elif what == "few":
        k = 41
    elif what == "type" and odd:
        x = x.long()
    elif what == "nan" and odd:
        x[4] = torch.nan
    elif what == "self" and odd:
        ref_emb = None  # type: ignore[assignment]
    with pytest.raises((ValueError, TypeError)) as error:
        nearest(x, k, ref_emb=ref_emb, group=everyone())
    return str(error.value)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("k", "k: expected the same on every rank, got 3 on rank 0 and 4 on rank 1"),
        ("dim", "dim: expected the same on every rank, got 5 on rank 0 and 4 on rank 1"),
        ("dtype", "got torch.float32 on rank 0 and torch.float64 on rank 1"),
        ("self", "without_ref_emb: expected the same on every rank, got False on rank 0"),
        ("few", "k: expected at most the 40 candidates, got 41"),
        ("type", "embeddings: expected float32, float64, float16 or bfloat16, got torch.int64"),
        ("nan", "embeddings, ref_emb: expected numbers, got NaN among the distances of row 4"),
    ],
)
def test_error_on_every_rank(what: str, told: str) -> None:
    assert all(told in message for message in run(2, nearest_of_something_wrong, what))


COUNT = 700


def labels() -> Tensor:
    return torch.arange(COUNT) % 40


def pairs_by_all_ranks() -> dict[str, Any]:
    """Everything that divides pairs, with blocks so small that each rank gets several."""
    _claims._FEWEST, pair_ranks._FEW = 64, 100
    x, others = rows(COUNT, 4), rows(300, 4, seed=1)
    seen: list[tuple[int, int]] = []
    group = everyone()
    calls = {
        "within": within(x, 0.5, progress=lambda *at: seen.append(at), group=group),
        "within another": within(x, 0.5, ref_emb=others, group=group),
        "within nothing": within(x, 0.0, ref_emb=others, group=group),
        "histogram": distance_histogram(x, labels(), low=0.1, bits=3, high=9, group=group),
        "histogram of two": distance_histogram(
            x,
            labels(),
            low=0.1,
            bits=3,
            high=9,
            ref_emb=others,
            ref_labels=labels()[:300],
            group=group,
        ),
        "rates": val_far_all_pairs(x, labels(), [0.3, 0.6], group=group),
        "rates of two": val_far_all_pairs(
            x, labels(), [0.3, 0.6], ref_emb=others, ref_labels=labels()[:300], group=group
        ),
        "splits": val_far_over_splits(x, labels(), 0.4, splits=3, group=group),
    }
    assert all(total == COUNT * (COUNT - 1) // 2 for _, total in seen)
    return {name: list(result) for name, result in calls.items()} | {
        "most": max((done for done, _ in seen), default=0)
    }


@pytest.mark.parametrize("world_size", [2, 3])
def test_pairs_divided(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(world_size, pairs_by_all_ranks)
    for module, name in ((_claims, "_FEWEST"), (pair_ranks, "_FEW")):  # which it changes
        monkeypatch.setattr(module, name, getattr(module, name))
    expected = pairs_by_all_ranks()
    assert max(ours.pop("most") for ours in found) == expected.pop("most")
    assert all(point.reachable for point in expected["rates"])
    for ours in found:
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def count_sums() -> int:
    sums = 0
    real = dist.all_reduce

    def count(*arguments: Any, **options: Any) -> None:
        nonlocal sums
        sums += 1
        real(*arguments, **options)

    dist.all_reduce = count
    _claims._FEWEST = 64
    distance_histogram(rows(COUNT, 4), labels(), low=0.1, bits=3, high=9, group=everyone())
    return sums


def test_counts_are_summed_once() -> None:
    assert run(2, count_sums) == [1, 1]


def other_rows_on_1() -> str:
    x = rows(COUNT, 4, seed=dist.get_rank())
    with pytest.raises(ValueError, match="embeddings: expected the same on every rank") as error:
        val_far_all_pairs(x, labels(), group=everyone())
    return str(error.value)


def test_rows_that_differ_are_an_error_on_every_rank() -> None:
    first, second = run(2, other_rows_on_1)
    assert first == second
    assert "got [700, 4] torch.float32 " in first


def of_rank_0_alone() -> list[Tensor]:
    """What one rank asks for while the other one is elsewhere."""
    if dist.get_rank() == 1:
        return []
    x = rows(60)
    return [nearest(x, 3).indices, within(x, 0.5).first, distance_histogram(x, labels()[:60])[0]]


def test_without_a_group_nobody_is_waited_for() -> None:
    first, _ = run(2, of_rank_0_alone, limit=20)
    x = rows(60)
    assert torch.equal(first[0], nearest(x, 3).indices)
    assert torch.equal(first[1], within(x, 0.5).first)
