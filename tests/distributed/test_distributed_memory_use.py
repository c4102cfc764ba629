"""What a step takes of a rank's memory: the gathered rows and their gradient, never M x N."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from processes import run

from facenet_ext import TripletSemiHardLoss
from facenet_ext.distributed import DistributedLoss


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def growth(of_ranks: list[int], dim: int, chunk_rows: int | None = None) -> int:
    """By how many bytes this process grows in a step, at most."""
    torch.manual_seed(dist.get_rank())
    rows = of_ranks[dist.get_rank()]
    loss = DistributedLoss(TripletSemiHardLoss(), chunk_rows=chunk_rows)

    def step(count: int) -> None:
        x = torch.randn(count, dim, requires_grad=True)
        loss(x, torch.arange(count) // 4).backward()

    step(64)  # what is made once: threads, buffers of connections
    x = torch.randn(rows, dim, requires_grad=True)
    y = torch.arange(rows) // 4 + 2**20 * dist.get_rank()
    dist.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # sets the recorded peak to the present use
    before = status("VmRSS:")
    loss(x, y).backward()
    return status("VmHWM:") - before


def test_growth_of_a_rank() -> None:
    ranks, rows, dim = 4, 4096, 128
    gathered = ranks * rows * dim * 4
    for grown in run(ranks, growth, [rows] * ranks, dim):
        assert gathered < grown <= 3 * 2 * gathered  # the rows and their gradient
        assert grown < rows * ranks * rows * 4 / 4  # far from [M_r, N]


def test_growth_of_a_rank_whose_candidates_come_round_in_pieces() -> None:
    rows, dim = [256, 12_288], 128
    gathered = sum(rows) * dim * 4
    assert run(2, growth, rows, dim)[0] > 2 * gathered  # the rows and their gradient
    assert run(2, growth, rows, dim, 1024)[0] < 2 * gathered
