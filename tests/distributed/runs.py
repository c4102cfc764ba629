"""Training runs in the processes of a test, and what they leave."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import processes
import torch
import torch.distributed as dist

processes.preload("facenet_ext.train.run", "facenet_ext.cli.train", "runs")


class Stop(NamedTuple):
    """A signal that one rank gets in the middle of a step."""

    rank: int
    step: int
    number: int = signal.SIGTERM


def as_torchrun(rank: int, size: int) -> dict[str, str]:
    """The environment that torchrun gives to a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    return {"TORCHELASTIC_RUN_ID": "a"} | {name: str(number) for name, number in numbers.items()}


def as_srun(rank: int, size: int) -> dict[str, str]:
    """The environment that Slurm's srun gives to a process."""
    numbers = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": 0, "SLURM_NNODES": 1}
    numbers |= {"SLURM_NTASKS": size, "SLURM_NTASKS_PER_NODE": size, "SLURM_JOB_ID": 1}
    return {name: str(number) for name, number in numbers.items()}


def command(
    folder: Path,
    arguments: Sequence[str],
    environment: dict[str, str],
    stop: Stop | None = None,
    launcher: Any = as_torchrun,
) -> tuple[int, str, str]:
    """``facenet`` in this process: its status, and what it printed.

    Drawing takes longer than everything else of such a run, so it is left out.
    """
    from facenet_ext import cli
    from facenet_ext.train.module import EmbeddingModule

    rank, size = dist.get_rank(), dist.get_world_size()
    out, err = io.StringIO(), io.StringIO()
    launched = launcher(rank, size) if size > 1 else {}
    step = EmbeddingModule.training_step

    def stopped(self: EmbeddingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if stop and rank == stop.rank and self.global_step == stop.step:
            os.kill(os.getpid(), stop.number)
        return step(self, batch, batch_idx)

    os.chdir(folder)
    with (
        mock.patch.dict(os.environ, launched | environment),
        mock.patch("facenet_ext.train.run.draw_all"),
        mock.patch.object(EmbeddingModule, "training_step", stopped),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = cli.main(arguments)
    return status, out.getvalue(), err.getvalue()


def facenet(
    world_size: int,
    folder: Path,
    *arguments: object,
    stop: Stop | None = None,
    launcher: Any = as_torchrun,
    **environment: str,
) -> Any:
    """The same in so many processes: a status and what was printed, by rank."""
    given = [str(argument) for argument in arguments]
    return processes.run(world_size, command, folder, given, environment, stop, launcher, limit=100)


def last(run: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint
