"""Claims about --max-minutes: the whole schedule fits into it; and about what a log file shows."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from small_runs import TINY, Facenet
from test_resume import assert_same, interrupt_before, last

import facenet_ext.train.progress
import facenet_ext.train.run
from facenet_ext.cli.train_options import parse
from facenet_ext.train.data import Batches, load
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.pace import Pace, measure, plan_steps

# Without --max-steps: nine steps and two evaluations fit, by what is measured below.
ALONE = [*TINY[: TINY.index("--max-steps")], "--evaluations", "2", "--max-minutes", "10"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step of a minute and an evaluation of 15 seconds have been measured."""
    monkeypatch.setattr(facenet_ext.train.run, "measure", lambda *_, **__: Pace(55.0, 15.0))


def test_the_whole_schedule_fits_into_the_minutes(
    facenet: Facenet, faces: Path, slow: None
) -> None:
    options = [*ALONE, "--data", faces, "--held-out", 0.4]
    status, out, err = facenet(*options, "--output", "run", tiny=False)
    assert (status, err) == (0, "")
    assert (
        "--max-minutes 10: a step takes 55 s and an evaluation 15 s; the schedule is fitted to 9 "
        "steps and 2 evaluations\n"
    ) in out
    assert re.findall(r"^step (\d+)/9: ", out, re.MULTILINE) == ["5", "9"]
    assert json.loads(Path("run/metrics.json").read_text())["steps"] == 9
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["max_steps"], config["evaluations"]) == (9, 2)
    # The rate has gone down to that of the last step, and all of the schedule is in the checkpoint.
    (scheduler,) = last("run")["lr_schedulers"]
    assert scheduler["last_epoch"] == 9
    assert scheduler["_last_lr"][0] < 1e-8
    # As much of the run is averaged over as in the steps that there were by default.
    assert config["ema"] == pytest.approx(0.998 ** (1200 / 9), abs=1e-6)


def test_a_run_that_was_stopped_keeps_the_steps_that_were_decided(
    facenet: Facenet, faces: Path, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["--data", faces, "--held-out", 0.4, "--dropout", 0.5, "--ema", 0.9]
    assert facenet(*data, "--max-steps", 9, "--output", "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_before(3, patch)
        assert facenet(*ALONE, *data, "--output", "stopped", tiny=False)[0] == 130
    monkeypatch.setattr(facenet_ext.train.run, "measure", pytest.fail)
    status, _, err = facenet("--resume", "stopped", tiny=False)
    assert (status, err) == (0, "")
    assert last("stopped")["global_step"] == 9
    assert_same(last("straight")["state_dict"], last("stopped")["state_dict"])


def test_a_run_can_go_on_for_more_minutes(facenet: Facenet, faces: Path, slow: None) -> None:
    assert facenet("--data", faces, "--held-out", 0.4, "--output", "run")[0] == 0
    assert facenet("--resume", "run", "--max-minutes", 10, tiny=False)[0] == 0
    assert last("run")["global_step"] == 4 + 9


def test_steps_that_are_asked_for_are_the_most(facenet: Facenet, faces: Path, slow: None) -> None:
    data = ["--data", faces, "--held-out", 0.4]
    assert facenet(*ALONE, *data, "--max-steps", 3, "--output", "a", tiny=False)[0] == 0
    assert facenet(*ALONE, *data, "--max-epochs", 2, "--output", "b", tiny=False)[0] == 0
    assert last("a")["global_step"] == 3
    assert last("b")["global_step"] == 4


@pytest.mark.parametrize(
    ("pace", "seconds", "expected"),
    [
        (
            Pace(9.0, 30.0),
            240,
            (20, 1),
        ),  # of four evaluations that take half of the time one is left
        (Pace(0.01, 1e-9), 100, (8999, 4)),
        (Pace(9.0, 30.0), 5, (1, 1)),
        (Pace(30.0, 0.1), 100, (2, 2)),
    ],
)
def test_what_fits(pace: Pace, seconds: float, expected: tuple[int, int]) -> None:
    plan = plan_steps(pace, seconds, evaluations=4)
    assert plan == expected
    spent = plan.steps * pace.step + plan.evaluations * pace.evaluation
    assert spent <= seconds or plan == (1, 1)


class _Slow(EmbeddingModule):
    """Takes at least so long for everything."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        time.sleep(0.05)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(0.2)
        super().validation_step(batch, batch_idx)

    def embed_once(self, examples: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1)
        return super().embed_once(examples)


def test_steps_and_evaluations_are_measured_as_they_are() -> None:
    options = parse([*TINY, "--mine-every", "50"], "facenet train").options
    data = load(options.data, Console(quiet=True))
    batches = Batches(data, options.batch, seed=0, epochs=1, steps=100_000)
    module = _Slow(options, data.train.shape, 100_000)
    pace = measure(module, batches, 6.0, accelerator="cpu", enable_progress_bar=False)
    mining = len(data.train) / 256 * 0.1 / 50
    assert 0.05 + mining < pace.step < 0.5
    assert pace.evaluation > len(data.val) / 256 * 0.2


def test_a_step_that_takes_longer_than_measured_does_not_outlast_the_minutes(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facenet_ext.train.run, "measure", lambda *_, **__: Pace(1e-6, 1e-3))
    options = [*ALONE, "--data", faces, "--held-out", 0.4, "--max-minutes", 0.02]
    status, out, err = facenet(*options, "--output", "run", tiny=False)
    assert (status, err) == (0, "")
    steps = json.loads(Path("run/metrics.json").read_text())["steps"]
    assert f"--max-minutes 0.02: time is up at step {steps} of " in out
    assert last("run")["global_step"] == steps


def test_a_log_file_shows_step_loss_and_time_left(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a step or an evaluation takes."""
    assert facenet_ext.train.progress._EVERY <= 30
    monkeypatch.setattr(facenet_ext.train.progress, "_EVERY", 0.1)
    original = EmbeddingModule.training_step

    def training_step(self: EmbeddingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        time.sleep(0.3)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(EmbeddingModule, "training_step", training_step)
    status, out, _ = facenet("--data", faces, "--held-out", 0.4, "--output", "run")
    assert status == 0
    assert "step 0/4: at the first step\n" in out
    lines = re.findall(r"^step (\d)/4: loss 0\.\d{4}, (\d+) s left$", out, re.MULTILINE)
    assert {step for step, _ in lines} >= {"1", "2", "3"}


def test_a_terminal_shows_a_bar_of_steps_and_the_line_of_each_evaluation(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    options = ("--mine-every", 2, "--data", faces, "--held-out", 0.4, "--output", "run")
    status, out, _ = facenet(*options)
    assert status == 0
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", " ", out)
    assert re.search(r"━ +4/4 .*it/s.* loss: +0\.\d", shown)
    assert re.search(r"step 4/4: loss 0\.\d+, .*accuracy", shown)
