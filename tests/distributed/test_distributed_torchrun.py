"""Claims about runs that torchrun or Lightning starts: killed, stopped, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from runs import facenet, last

sys.path.append(str(Path(__file__).resolve().parents[1] / "train"))
from small_runs import TINY, write_faces

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[2]
LONG = [*TINY, "--data", "faces", "--held-out", "0.4", "--sync-batch-norm", "true"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
TRAIN = ["-m", "facenet_ext.train"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a folder, as its own process group, once it has saved a checkpoint."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    while not (folder / "run/checkpoints/last.ckpt").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True
    )
    return [int(number) for number in listed.stdout.split()]


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def messages(err: str) -> Sequence[str]:
    """The lines of the command itself; torchrun has its own."""
    assert "facenet_ext/" not in err, err  # no traceback of ours
    return [line for line in err.splitlines() if line.startswith("python -m facenet_ext.train:")]


TOLD = (
    "python -m facenet_ext.train: stopped; continue with "
    "python -m facenet_ext.train --resume run/checkpoints/last.ckpt"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_faces(tmp_path / "faces", {f"Person_{i:02d}": 4 for i in range(10)})
    return tmp_path


def test_a_killed_rank_and_a_terminated_job_do_not_change_the_result(folder: Path) -> None:
    options = [*LONG, "--max-steps", "60", "--evaluations", "12", "--dropout", "0.3"]
    again = ["29551", "--max-restarts", "3", "--monitor-interval", "0.1"]
    process = start(folder, *TORCHRUN, *again, *TRAIN, *options, "--output", "run")
    os.kill(children(process.pid)[1], signal.SIGKILL)
    killed_at = last(folder / "run")["global_step"]
    deadline = time.monotonic() + 100
    while last(folder / "run")["global_step"] <= killed_at:  # it goes on by itself
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    status, out, err = end(process)
    assert status != 0
    assert out.count("train on") == 2  # it was started again
    lost, stopped = messages(err)
    assert "another process has ended" in lost
    assert stopped == TOLD
    facenet(2, folder, "train", "--resume", "run")
    facenet(2, folder, "train", *options, "--output", "whole")
    states = [last(folder / name) for name in ("run", "whole")]
    assert [state["global_step"] for state in states] == [60, 60]
    for name, weight in states[1]["state_dict"].items():
        assert torch.equal(states[0]["state_dict"][name], weight), name


def test_ctrl_c_of_processes_that_lightning_started(folder: Path) -> None:
    endless = ["--max-steps", "100000", "--evaluations", "10000", "--output", "run"]
    process = start(folder, *TRAIN, *LONG, *endless, "--devices", "2")
    os.killpg(process.pid, signal.SIGINT)
    status, _, err = end(process)
    assert status == 130, err
    assert err.splitlines() == [TOLD]
    assert last(folder / "run")["global_step"] > 0
