"""Claims about stopping and continuing: nothing of a run depends on where it was cut."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TINY, Facenet

import facenet_ext.train.run
from facenet_ext.train.module import EmbeddingModule

# Everything random or stateful at once.
EVERYTHING: list[str] = shlex.split("""
    --max-steps 9 --evaluations 3 --ema 0.9 --dropout 0.5 --flip true --rotation 10
    --brightness 0.1 --contrast 0.1 --gamma 0.2 --illumination 0.1 --blur 0.5 --noise 0.1
    --erasing 0.5 --members 2 --aligned-size [12,10] --schedule onecycle --clip 1 --seed 5
    --held-out 0.4
""")


def interrupt_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C in the middle of a step, once."""
    original = EmbeddingModule.training_step

    def training_step(self: EmbeddingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            monkeypatch.undo()
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(EmbeddingModule, "training_step", training_step)


def last(run: str) -> dict[str, Any]:
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)  # type: ignore[no-any-return]


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Assert that two checkpoints hold the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


# In the first step; in the one before an evaluation and the one after; in the last.
@pytest.mark.parametrize(
    ("optimizer", "step"),
    [
        ("adamw", 3),
        *(pytest.param("adamw", step, marks=pytest.mark.ci) for step in (0, 1, 2, 8)),
        *(pytest.param(name, 4, marks=pytest.mark.ci) for name in ("adagrad", "sgd")),
    ],
)
def test_a_run_that_was_stopped_continues_to_the_same_result(
    facenet: Facenet,
    faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    step: int,
) -> None:
    options = [*EVERYTHING, "--data", faces, "--optimizer", optimizer]
    assert facenet(*options, "--output", "straight")[0] == 0

    with monkeypatch.context() as patch:
        interrupt_before(step, patch)
        status, _, err = facenet(*options, "--output", "stopped")
    assert status == 130
    assert "--resume stopped/checkpoints/last.ckpt" in err
    assert last("stopped")["global_step"] == step + 1
    assert not Path("stopped/metrics.json").exists()

    status, _, err = facenet("--resume", "stopped", tiny=False)
    assert (status, err) == (0, "")
    straight, stopped = last("straight"), last("stopped")
    for part in (
        *("global_step", "state_dict", "current_model_state", "averaging_state"),
        *("optimizer_states", "lr_schedulers"),
    ):
        assert_same(straight[part], stopped[part], part)
    assert_same(straight["facenet_ext"]["history"], stopped["facenet_ext"]["history"])
    metrics = [Path(run, "metrics.json").read_text() for run in ("straight", "stopped")]
    assert metrics[0] == metrics[1]


@pytest.mark.ci
def test_continuing_from_the_best_checkpoint_gives_the_same_result(
    facenet: Facenet, faces: Path
) -> None:
    assert facenet(*EVERYTHING, "--data", faces, "--output", "run")[0] == 0
    straight = last("run")
    assert facenet("--resume", "run/checkpoints/best.ckpt", tiny=False)[0] == 0
    assert_same(straight["state_dict"], last("run")["state_dict"])


def test_resuming_a_finished_run_only_reports_again(facenet: Facenet, faces: Path) -> None:
    assert facenet(*EVERYTHING, "--data", faces, "--output", "run")[0] == 0
    before, weights = Path("run/metrics.json").read_text(), last("run")["state_dict"]
    assert facenet("--output", "run", "--resume", tiny=False)[0] == 0
    assert Path("run/metrics.json").read_text() == before
    assert_same(last("run")["state_dict"], weights)


def test_a_finished_run_can_be_made_longer(facenet: Facenet, faces: Path) -> None:
    constant = [
        "--data",
        faces,
        "--held-out",
        0.4,
        "--schedule",
        "constant",
        "--dropout",
        0.5,
        "--ema",
        0.9,
    ]
    assert facenet(*constant, "--max-steps", 6, "--output", "long")[0] == 0
    assert facenet(*constant, "--max-steps", 3, "--output", "short")[0] == 0
    assert facenet("--resume", "short", "--max-steps", 6, tiny=False)[0] == 0
    assert last("short")["global_step"] == 6
    assert_same(last("long")["state_dict"], last("short")["state_dict"])


def test_resume_alone_continues_the_latest_run(facenet: Facenet, faces: Path) -> None:
    assert facenet("--data", faces, "--held-out", 0.4)[0] == 0
    (run,) = Path("runs").iterdir()
    (run / "metrics.json").unlink()
    assert facenet("--resume", tiny=False)[0] == 0
    assert (run / "metrics.json").is_file()


def test_two_runs_with_one_seed_are_equal_and_with_two_differ(
    facenet: Facenet, faces: Path
) -> None:
    for output, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            facenet("--data", faces, "--held-out", 0.4, "--output", output, "--seed", seed)[0] == 0
        )
    assert_same(last("a")["state_dict"], last("b")["state_dict"])
    weight = "network.embedding.weight"
    assert not torch.equal(last("a")["state_dict"][weight], last("c")["state_dict"][weight])


@pytest.mark.parametrize(("place", "checkpoint"), [("load", False), ("table", True)])
def test_ctrl_c_outside_the_steps_tells_the_truth_too(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch, place: str, checkpoint: bool
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(facenet_ext.train.run, place, interrupted)
    status, _, err = facenet("--data", faces, "--held-out", 0.4, "--output", "run")
    assert status == 130
    assert err.count("\n") == 1
    assert ("--resume run/checkpoints/last.ckpt" in err) is checkpoint
    assert Path("run").exists() is checkpoint


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_checkpoint_before(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = EmbeddingModule.training_step

    def training_step(self: EmbeddingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(EmbeddingModule, "training_step", training_step)
    status, _, err = facenet("--data", faces, "--held-out", 0.4, "--output", "run")
    assert status == 130
    assert "--resume run/checkpoints/last.ckpt" in err
    assert last("run")["global_step"] == 2


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_one_line_and_a_checkpoint(
    tmp_path: Path, number: int
) -> None:
    command = [sys.executable, "-m", "facenet_ext.train", *TINY, "--output", "run"]
    process = subprocess.Popen(
        [*command, "--max-steps", "1000000", "--evaluations", "20000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/checkpoints/last.ckpt").is_file() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines() == [
        "python -m facenet_ext.train: stopped; continue with "
        "python -m facenet_ext.train --resume run/checkpoints/last.ckpt"
    ]
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] > 0
