"""Mining divided among processes: the file of one process, whoever was killed on the way."""

from __future__ import annotations

import os
import signal
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import RankError, run

from facenet_ext._files import lock
from facenet_ext.common.processes import everyone
from facenet_ext.mining import Block, TripletRule, blocks, mine, mine_to_parquet, storage

BLOCK, CHUNK = 16, 60
ALL = TripletRule(positives="all", fallback="drop")


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows of 30 classes, with duplicates, so that there are ties."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 30, 300)
    embeddings = generator.standard_normal((30, 4))[labels] + generator.standard_normal((300, 4))
    embeddings[generator.integers(0, 300, 60)] = embeddings[generator.integers(0, 300, 60)]
    return embeddings.astype(np.float32), labels


COUNT = len(blocks(rows()[1], BLOCK))


def mine_here(path: Path, rule: TripletRule = storage.SEMIHARD, **more: Any) -> list[int]:
    """Mine, and return the first anchors of the blocks that this process searched."""
    searched = []
    real = storage.mine_block

    def record(embeddings: Any, labels: Any, block: Block, *rest: Any, **options: Any) -> Any:
        searched.append(int(block.rows[0]))
        return real(embeddings, labels, block, *rest, **options)

    storage.mine_block = record  # type: ignore[assignment]
    try:
        mine_to_parquet(*rows(), path, rule, block=BLOCK, chunk=CHUNK, group=everyone(), **more)
    finally:
        storage.mine_block = real
    return searched


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "triplets.parquet"
    mine_here(path)
    return path.read_bytes()


@pytest.mark.parametrize("world_size", [2, 4, 7])
def test_file_of_one_process_and_each_block_searched_once(
    world_size: int, tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "triplets.parquet"
    searched = list(chain(*run(world_size, mine_here, path)))
    assert path.read_bytes() == whole
    assert sorted(searched) == sorted(int(block.rows[0]) for block in blocks(rows()[1], BLOCK))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_file_of_one_process_by_all_positives(tmp_path: Path) -> None:
    mine_here(tmp_path / "one.parquet", ALL)
    run(3, mine_here, tmp_path / "three.parquet", ALL)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "three.parquet").read_bytes()


def mine_slowly_on_0(path: Path) -> int:
    slow = dist.get_rank() == 0
    return len(mine_here(path, progress=lambda *_: time.sleep(0.3 if slow else 0)))


def test_fast_rank_takes_more(tmp_path: Path) -> None:
    slow, fast = run(2, mine_slowly_on_0, tmp_path / "triplets.parquet")
    assert slow + fast == COUNT
    assert fast > 2 * slow


def die_at(path: Path, rank: int, call: int, moment: str) -> None:
    """Mine, and be killed in the search of a block, or before its file has its name."""
    if dist.get_rank() == rank:
        place = {"search": "mine_block", "write": "_write"}[moment]
        real, calls = getattr(storage, place), 0

        def stop(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(storage, place, stop)
    mine_here(path, progress=lambda *_: time.sleep(0.02))


@pytest.mark.parametrize(
    ("rank", "call", "moment", "after"),
    [(1, 1, "search", 2), (2, 3, "write", 4), (0, 2, "write", 1), (0, 4, "search", 7)],
)
def test_what_a_killed_rank_had_claimed_is_searched_by_the_next_job(
    rank: int, call: int, moment: str, after: int, tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "triplets.parquet"
    with pytest.raises(RankError, match=f"rank {rank}: ended without a word"):
        run(3, die_at, path, rank, call, moment)
    parts = path.with_name(path.name + ".parts")
    before = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}
    assert before
    assert len(before) < COUNT
    assert not path.exists()
    searched = list(chain(*run(after, mine_here, path))) if after > 1 else mine_here(path)
    assert len(searched) == COUNT - len(before), "nothing that was finished is done again"
    assert path.read_bytes() == whole


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match="another call is mining") as error:
        mine_here(path)
    return str(error.value)


def test_two_jobs_on_one_file(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "triplets.parquet"
    parts = path.with_name(path.name + ".parts")
    parts.mkdir()
    with lock(parts / "lock") as ours:
        assert ours
        told = run(2, refused, path)
    assert told[0] == f"{parts}: another call is mining into it; wait for its end"
    assert told[1] == f"rank 0: {told[0]}"
    run(2, mine_here, path)
    assert path.read_bytes() == whole


def fail_on_1(path: Path) -> tuple[str, int]:
    failed = path.with_name("failed")

    def progress(done: int, total: int) -> None:
        if done and dist.get_rank() == 1:
            failed.touch()
            raise TypeError("out of luck")
        while done and not failed.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # until rank 1 has left no block to claim

    with pytest.raises(TypeError, match="out of luck") as error:
        mine_here(path, progress=progress)
    parts = path.with_name(path.name + ".parts")
    return str(error.value), len(list(parts.glob("*.parquet")))


def test_error_of_one_rank_ends_all_at_once(tmp_path: Path) -> None:
    found = run(3, fail_on_1, tmp_path / "triplets.parquet")
    relayed = "rank 1: out of luck"
    assert [text for text, _ in found] == [relayed, "out of luck", relayed]
    assert all(count <= 5 for _, count in found), "no rank goes on with other blocks"


def mine_another_margin_on_1(path: Path) -> str:
    rule = TripletRule(0.3 + dist.get_rank(), positives="hardest", fallback="drop")
    with pytest.raises(ValueError, match="same on every rank") as error:
        mine_here(path, rule)
    return str(error.value)


def test_options_that_differ_are_an_error_on_every_rank(tmp_path: Path) -> None:
    for told in run(2, mine_another_margin_on_1, tmp_path / "triplets.parquet"):
        assert (
            "margin: expected the same on every rank, got 0.3 on rank 0 and 1.3 on rank 1" in told
        )


def mined() -> list[list[list[float]]]:
    found = mine(*rows(), block=BLOCK, chunk=CHUNK, group=everyone())
    return [torch.stack([field.double() for field in block]).tolist() for block in found]


def test_each_rank_yields_the_blocks_that_it_claimed() -> None:
    assert sorted(chain(*run(2, mined))) == sorted(mined())
