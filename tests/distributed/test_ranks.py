"""What ranks tell each other: tensors, sums, and whose error ends all of them."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from processes import RankError, run

from facenet_ext._ranks import Ranks


def exchange() -> tuple[list[int], int, list[int], list[int]]:
    ranks = Ranks.of()
    mine = torch.arange(2) + 10 * ranks.rank
    gathered = ranks.all_gather(mine)
    total = ranks.all_reduce(torch.tensor(ranks.rank + 1))
    share = ranks.reduce_scatter(torch.arange(6) * (ranks.rank + 1), [2, 2, 2])
    unequal = ranks.reduce_scatter(torch.arange(6) * (ranks.rank + 1), [3, 0, 3])
    return gathered.flatten().tolist(), int(total), share.tolist(), unequal.tolist()


def test_tensors_and_sums() -> None:
    for rank, result in enumerate(run(3, exchange)):
        share = [6 * 2 * rank, 6 * (2 * rank + 1)]
        unequal = [[0, 6, 12], [], [18, 24, 30]][rank]
        assert result == ([0, 1, 10, 11, 20, 21], 6, share, unequal)


def test_one_process_is_a_group_of_one() -> None:
    ranks = Ranks.of()
    assert (ranks.rank, ranks.size) == (0, 1)
    assert ranks.all_gather(torch.ones(2)).tolist() == [[1, 1]]
    assert ranks.reduce_scatter(torch.ones(2), [2]).tolist() == [1, 1]
    ranks.raise_anywhere(None)
    with pytest.raises(KeyError):
        ranks.raise_anywhere(KeyError("x"))


def caught(wrong: int) -> str:
    ranks = Ranks.of()
    try:
        ranks.raise_anywhere(TypeError("über all") if ranks.rank == wrong else None)
    except TypeError as error:
        return str(error)
    return "nothing"


def test_error_of_one_rank_is_raised_on_every_rank() -> None:
    assert run(3, caught, 1) == ["rank 1: über all", "über all", "rank 1: über all"]
    assert run(2, caught, 7) == ["nothing"] * 2


def outside() -> str:
    group = dist.new_group([0])
    if dist.get_rank() == 0:
        return str(Ranks.of(group).size)
    Ranks.of(group)
    return ""


def test_group_without_this_process() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1.*ValueError: group: expected one"):
        run(2, outside)
