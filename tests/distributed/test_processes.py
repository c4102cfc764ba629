"""The helper that starts processes: what returns, whose exception it was, who stood still."""

from __future__ import annotations

import os
import time

import pytest
import torch
import torch.distributed as dist
from processes import RankError, run


def add(value: int) -> tuple[int, int]:
    total = torch.tensor(dist.get_rank() + value)
    dist.all_reduce(total)
    return dist.get_rank(), int(total)


def fail_on(rank: int) -> None:
    if dist.get_rank() == rank:
        raise ValueError("so")
    dist.barrier()


def stand_still_on(rank: int) -> None:
    while dist.get_rank() == rank:
        time.sleep(0.01)


def leave_on(rank: int) -> None:
    if dist.get_rank() == rank:
        os._exit(3)


def test_results_by_rank() -> None:
    assert run(3, add, 10) == [(0, 33), (1, 33), (2, 33)]


def test_exception_has_its_rank() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1: Traceback.*ValueError: so"):
        run(2, fail_on, 1)


def test_who_stood_still_is_named_with_its_stack() -> None:
    with pytest.raises(RankError, match=r"(?s)stood still: \[1\].*rank 1:.*stand_still_on"):
        run(2, stand_still_on, 1, limit=3)


def test_silent_end_has_its_rank() -> None:
    with pytest.raises(RankError, match="rank 0: ended without a word"):
        run(2, leave_on, 0)
