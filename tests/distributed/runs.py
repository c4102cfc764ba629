"""Training runs in the processes of a test, and what they leave."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import processes
import torch
import torch.distributed as dist

processes.preload("facenet_ext.train.run", "facenet_ext.cli.train", "runs")


def as_torchrun(rank: int, size: int, **more: str) -> dict[str, str]:
    """The environment that torchrun gives to a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    names = {name: str(number) for name, number in numbers.items()}
    return {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"} | names | more


def train_here(folder: Path, arguments: Sequence[str], **environment: str) -> tuple[int, str, str]:
    """``facenet train`` in this process: its status, and what it printed.

    Drawing takes longer than everything else of such a run, so it is left out.
    """
    from facenet_ext.cli.train import main

    out, err = io.StringIO(), io.StringIO()
    launched = as_torchrun(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else {}
    os.chdir(folder)
    with (
        mock.patch.dict(os.environ, launched | environment),
        mock.patch("facenet_ext.train.run.draw_all"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(arguments, prog="facenet train")
    return status, out.getvalue(), err.getvalue()


def train(world_size: int, folder: Path, *arguments: object, **environment: str) -> Any:
    """The same in so many processes: a status and what was printed, by rank."""
    given = [str(argument) for argument in arguments]
    return processes.run(world_size, _train, folder, given, environment, limit=100)


def _train(folder: Path, arguments: list[str], environment: dict[str, str]) -> Any:
    return train_here(folder, arguments, **environment)


def last(run: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint
