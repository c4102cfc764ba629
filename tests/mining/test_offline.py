"""Claims about offline mining: the triplets of all rows at once, in the memory of a chunk."""

from __future__ import annotations

import dataclasses
import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facenet_ext import Triplets, select_triplets
from facenet_ext.mining import TripletRule, blocks, mine, mine_to_parquet, read_triplets

offline = functools.partial(TripletRule, positives="hardest", fallback="drop")
RULES = [
    offline(0.3, positives=positives, negatives=negatives, within_margin=within, distance=distance)
    for positives in ("hardest", "easiest", "all")
    for negatives, within in (("semihard", False), ("semihard", True), ("hardest", False))
    for distance in ("sqeuclidean", "cosine")
]


def rows(count: int, classes: int, seed: int = 0, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows in clusters, with duplicates in and across classes, and labels in no order."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count) * 7 - 3
    centres = np.random.default_rng(1).standard_normal((7 * classes + 4, dim))
    embeddings = centres[labels + 3] + 0.7 * generator.standard_normal((count, dim))
    copies = generator.integers(0, count, (2, count // 5))
    embeddings[copies[0]] = embeddings[copies[1]]
    return embeddings.astype(np.float32), labels


def at_once(embeddings: np.ndarray, labels: np.ndarray, rule: TripletRule) -> Triplets:
    return select_triplets(
        torch.from_numpy(embeddings), torch.from_numpy(labels), **dataclasses.asdict(rule)
    )


def in_order(found: list[Triplets]) -> Triplets:
    """All triplets in lexicographic order, which blocks are not."""
    joined = [torch.cat(field) for field in zip(*found, strict=True)]
    order = np.lexsort((joined[1].numpy(), joined[0].numpy()))
    return Triplets(*(field[order] for field in joined))


@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: "-".join(map(str, dataclasses.astuple(rule)))
)
@pytest.mark.parametrize(("block", "chunk"), [(20, 37), (1, 10), (1000, 1000), (64, 1)])
def test_chunks_find_what_all_rows_at_once_would(rule: TripletRule, block: int, chunk: int) -> None:
    embeddings, labels = rows(150, 17)
    expected = at_once(embeddings, labels, rule)
    found = in_order(list(mine(embeddings, labels, rule, block=block, chunk=chunk)))
    assert len(expected.anchor) > 0
    for name, ours, theirs in zip(Triplets._fields, found, expected, strict=True):
        assert torch.equal(ours, theirs), name


@given(
    count=st.integers(2, 60),
    classes=st.integers(1, 12),
    block=st.integers(1, 70),
    chunk=st.integers(3, 70),
    seed=st.integers(0, 1000),
)
def test_no_choice_depends_on_how_rows_are_cut(
    count: int, classes: int, block: int, chunk: int, seed: int
) -> None:
    embeddings, labels = rows(count, classes, seed, dim=2)
    expected = at_once(embeddings, labels, offline(positives="all"))
    parts = list(mine(embeddings, labels, offline(positives="all"), block=block, chunk=chunk))
    if not parts:
        assert len(expected.anchor) == 0
        return
    for ours, theirs in zip(in_order(parts), expected, strict=True):
        assert torch.equal(ours, theirs)


@given(
    labels=st.lists(st.integers(-5, 5), max_size=40),
    size=st.integers(1, 50),
    pairs=st.none() | st.integers(1, 200),
)
def test_a_block_is_as_large_as_it_may_and_has_its_classes_along(
    labels: list[int], size: int, pairs: int | None
) -> None:
    array = np.array(labels, dtype=np.int64)
    found = blocks(array, size, pairs)
    together = np.concatenate([block.rows for block in found]) if found else np.empty(0, np.int64)
    counts = {label: labels.count(label) for label in labels}
    assert sorted(together) == [row for row, label in enumerate(labels) if counts[label] > 1]
    for block in found:
        inside = {labels[row] for row in block.rows}
        assert len(block.members) == sum(counts[label] for label in inside)
        assert set(block.rows) <= set(block.members)
        assert len(block.rows) <= size
        own = sum(counts[labels[row]] - 1 for row in block.rows)
        assert pairs is None or own <= pairs or len(block.rows) == 1
        assert len(block.rows) == len(block.members) or len(inside) == 1
        assert (np.diff(block.rows) > 0).all()
        assert (np.diff(block.members) > 0).all()
    if pairs is None:
        for a, b in pairwise(found):
            assert len(a.rows) + min(counts[labels[row]] for row in b.rows) > size


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_mapped_file_of_another_type_is_read_as_it_is(tmp_path: Path, dtype: type) -> None:
    embeddings, labels = rows(90, 11)
    np.save(tmp_path / "e.npy", embeddings.astype(dtype))
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")
    expected = at_once(embeddings.astype(dtype), labels, offline())
    found = in_order(list(mine(mapped, labels, block=16, chunk=25)))
    assert torch.equal(found.negative, expected.negative)
    assert torch.equal(found.d_an, expected.d_an)


def test_progress_and_a_file_of_all_blocks(tmp_path: Path) -> None:
    embeddings, labels = rows(150, 17)
    path = tmp_path / "triplets.parquet"
    seen: list[tuple[int, int]] = []
    count = mine_to_parquet(
        embeddings, labels, path, block=20, chunk=50, progress=lambda *at: seen.append(at)
    )
    found = read_triplets(path)
    assert len(found.anchor) == count
    expected = at_once(embeddings, labels, offline())
    assert all(torch.equal(a, b) for a, b in zip(in_order([found]), expected, strict=True))
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1]
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    assert [file.name for file in tmp_path.iterdir()] == ["triplets.parquet"]


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    embeddings, labels = rows(150, 17)
    path = tmp_path / "triplets.parquet"

    def stop(done: int, total: int) -> None:
        if done >= total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine_to_parquet(embeddings, labels, path, block=20, progress=stop)
    assert not path.exists()
    parts = sorted((tmp_path / "triplets.parquet.parts").glob("*.parquet"))
    before = {part: part.stat().st_mtime_ns for part in parts}
    assert before

    seen: list[int] = []
    mine_to_parquet(
        embeddings, labels, path, block=20, progress=lambda done, total: seen.append(done)
    )
    assert seen[0] > 0
    whole = tmp_path / "whole.parquet"
    mine_to_parquet(embeddings, labels, whole, block=20)
    for a, b in zip(read_triplets(path), read_triplets(whole), strict=True):
        assert torch.equal(a, b)


def test_what_was_begun_with_other_input_is_not_mixed(tmp_path: Path) -> None:
    embeddings, labels = rows(150, 17)
    path = tmp_path / "triplets.parquet"

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine_to_parquet(embeddings, labels, path, block=20, progress=stop)
    with pytest.raises(ValueError, match="begun with another embeddings"):
        mine_to_parquet(embeddings + 1, labels, path, block=20)
    with pytest.raises(ValueError, match="begun with another labels"):
        mine_to_parquet(embeddings, labels[::-1].copy(), path, block=20)
    with pytest.raises(ValueError, match="begun with another negatives: expected 'semihard'"):
        mine_to_parquet(embeddings, labels, path, offline(negatives="hardest"), block=20)
    with pytest.raises(ValueError, match="begun with another block"):
        mine_to_parquet(embeddings, labels, path, block=30)
    assert mine_to_parquet(embeddings + 1, labels, path, block=20, resume=False) > 0


def test_bad_input_is_named(tmp_path: Path) -> None:
    embeddings, labels = rows(30, 4)

    def run(e: np.ndarray = embeddings, y: np.ndarray = labels, **options: Any) -> None:
        list(mine(e, y, offline(**options)))

    with pytest.raises(ValueError, match="labels: expected one per row of embeddings, 30, got 29"):
        run(y=labels[1:])
    with pytest.raises(TypeError, match="labels: expected integers, got float64"):
        run(y=labels * 1.0)
    with pytest.raises(TypeError, match="embeddings: expected float16"):
        run(e=embeddings.astype(np.int64))
    with pytest.raises(ValueError, match="embeddings: expected 2 dimensions"):
        run(e=embeddings[:, 0])
    with pytest.raises(ValueError, match="negatives: expected one of 'semihard', 'hardest'"):
        run(negatives="random_semihard")
    with pytest.raises(ValueError, match="fallback: expected one of 'drop', got 'farthest'"):
        run(fallback="farthest")
    with pytest.raises(ValueError, match="margin"):
        run(margin=float("nan"))
    poisoned = embeddings.copy()
    poisoned[7, 2] = np.nan
    with pytest.raises(
        ValueError, match="embeddings: expected finite numbers, got others in row 7"
    ):
        run(e=poisoned)
    with pytest.raises(ValueError, match="size: expected at least 1"):
        blocks(labels, 0)
    (tmp_path / "no.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"no\.parquet: not a file of mined triplets"):
        read_triplets(tmp_path / "no.parquet")


def test_nothing_to_mine_gives_an_empty_file(tmp_path: Path) -> None:
    embeddings = np.zeros((3, 2), np.float32)
    assert mine_to_parquet(embeddings, np.arange(3), tmp_path / "t.parquet") == 0
    assert len(read_triplets(tmp_path / "t.parquet").anchor) == 0
    assert mine_to_parquet(embeddings, np.zeros(3, np.int64), tmp_path / "u.parquet") == 0
    assert mine_to_parquet(embeddings[:0], np.arange(0), tmp_path / "v.parquet") == 0
