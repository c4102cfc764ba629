"""What a step takes of a rank's memory: the gathered rows and their gradient, never M x N."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist
from processes import run

from facenet_ext import TripletSemiHardLoss
from facenet_ext.distributed import DistributedLoss


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def growth(rows: int, dim: int) -> int:
    """By how many bytes this process grows in a step, at most."""
    torch.manual_seed(dist.get_rank())
    loss = DistributedLoss(TripletSemiHardLoss())

    def step(count: int) -> None:
        x = torch.randn(count, dim, requires_grad=True)
        loss(x, torch.arange(count) // 4).backward()

    step(64)  # what is made once: threads, buffers of connections
    x = torch.randn(rows, dim, requires_grad=True)
    y = torch.arange(rows) // 4
    dist.barrier()
    before = highest = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    loss(x, y).backward()
    done.set()
    watcher.join()
    return highest - before


def test_growth_of_a_rank() -> None:
    ranks, rows, dim = 4, 4096, 128
    gathered = ranks * rows * dim * 4
    for grown in run(ranks, growth, rows, dim):
        assert gathered < grown <= 3 * 2 * gathered  # the rows and their gradient
        assert grown < rows * ranks * rows * 4 / 4  # far from [M_r, N]
