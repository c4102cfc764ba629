"""Claims about training in many processes: they do what one process does, and stop as one."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import processes
import pytest
import torch
import torch.distributed as dist
from runs import Stop, as_srun, command, facenet, last

sys.path.append(str(Path(__file__).resolve().parents[1] / "train"))
from small_runs import TINY, write_faces

# All that is random or has a state at once.
EVERYTHING = shlex.split("""
    --max-steps 20 --evaluations 4 --dropout 0.5 --flip true --rotation 10 --brightness 0.1
    --contrast 0.1 --gamma 0.2 --illumination 0.1 --blur 0.5 --noise 0.1 --erasing 0.5
    --members 2 --aligned-size [12,10] --schedule onecycle --clip 1 --ema 0.9 --seed 5
    --sync-batch-norm true --wccn true --fisher 6 --cohort 4 --negatives 2 --input-size 32
    --negative-rule random_violating
    --mine-every 6 --mined-triplets 3 --held-out 0.4
""")
# A network of the paper: no batch normalisation. Micro-batches, which are not those of one process.
# The rule and the rate are such that rounding decides little: it may choose between two negatives
# that are about as close, and a deep network at a high rate makes much of the least difference.
PLAIN = shlex.split("""
    --max-steps 20 --evaluations 1 --dropout 0.3 --flip true --noise 0.1 --held-out 0.4
    --model nns2 --input-size 64 --micro-batch 5 --optimizer adagrad --lr 0.001 --negatives 3
    --negative-rule random_violating --identities 3
""")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = {f"Person_{i:02d}": 4 for i in range(10)} | {f"Single_{i}": 1 for i in range(4)}
    return write_faces(tmp_path_factory.mktemp("data") / "faces", people)


def train(world_size: int, folder: Path, *arguments: object, **more: Any) -> Any:
    return facenet(world_size, folder, "train", *arguments, **more)


def succeed(results: Any) -> None:
    """All ranks ended well, and the first one alone printed."""
    (status, out, err), *others = results
    assert (status, err) == (0, ""), err
    assert "verification" in out
    assert others == [(0, "", "")] * len(others)


def assert_same_run(run: Path, expected: Path) -> None:
    actual, wanted = last(run), last(expected)
    assert actual["global_step"] == wanted["global_step"] == 20
    for name, weight in wanted["state_dict"].items():
        torch.testing.assert_close(actual["state_dict"][name], weight, rtol=0, atol=1e-5, msg=name)
    histories = [state["facenet_ext"]["history"] for state in (actual, wanted)]
    for figure, values in histories[1].items():
        assert histories[0][figure] == pytest.approx(values, abs=1e-4), figure
    figures = [json.loads((path / "metrics.json").read_text()) for path in (run, expected)]
    assert figures[0]["auc"] == pytest.approx(figures[1]["auc"], abs=1e-3)


@pytest.fixture(scope="module")
def everything(faces: Path) -> Path:
    """A run of one process."""
    folder = faces.parent
    succeed(train(1, folder, *TINY, *EVERYTHING, "--data", faces, "--output", "everything"))
    return folder / "everything"


def test_two_processes_do_what_one_does(everything: Path, faces: Path, tmp_path: Path) -> None:
    """They decode images when these are needed; the one has them in memory."""
    options = [*TINY, *EVERYTHING, "--data", faces, "--output", "run", "--memory", 1e-9]
    options += ["--workers", 0]  # daemons have no children
    succeed(train(2, tmp_path, *options))
    assert_same_run(tmp_path / "run", everything)
    found = [
        sorted(p.name for p in (run / "mined").iterdir()) for run in (tmp_path / "run", everything)
    ]
    assert found[0] == found[1]


@pytest.mark.ci
def test_a_run_of_two_processes_goes_on_with_three_and_with_one(
    everything: Path, faces: Path, tmp_path: Path
) -> None:
    options = [*TINY, *EVERYTHING, "--data", faces, "--output", "run"]
    options += ["--cache", tmp_path / "cache", "--workers", 0]  # one decodes for all
    told = (
        "facenet train: stopped; continue with facenet train --resume run/checkpoints/last.ckpt\n"
    )
    results = train(2, tmp_path, *options, stop=Stop(rank=1, step=7))
    assert [status for status, _, _ in results] == [130, 130]
    assert sorted(err for _, _, err in results) == ["", told]
    assert last(tmp_path / "run")["global_step"] == 8
    results = train(3, tmp_path, "--resume", "run", stop=Stop(rank=0, step=13))
    assert [status for status, _, _ in results] == [130] * 3
    succeed(train(1, tmp_path, "--resume", "run"))
    assert_same_run(tmp_path / "run", everything)


@pytest.mark.ci
def test_a_network_without_batch_statistics_in_micro_batches(faces: Path, tmp_path: Path) -> None:
    options = [*TINY, *PLAIN, "--data", faces]
    succeed(train(1, tmp_path, *options, "--output", "one"))
    succeed(train(3, tmp_path, *options, "--output", "three"))
    assert_same_run(tmp_path / "three", tmp_path / "one")


def count_collectives(folder: Path, arguments: list[str]) -> Counter[str]:
    """The collectives of three steps and their evaluation; those of DDP are not among them."""
    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        original = getattr(dist, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return original(*args, **kwargs)

        return mock.patch.object(dist, name, call)

    names = ("all_gather_into_tensor", "all_gather_single", "all_reduce")
    names += ("all_to_all_single",)
    patches = [counted(name) for name in names if hasattr(dist, name)]
    for patch in patches:
        patch.start()
    status, _, err = command(folder, arguments, {})
    mock.patch.stopall()
    assert status == 0, err
    return counts


def test_micro_batches_have_the_collectives_of_one_batch(faces: Path, tmp_path: Path) -> None:
    options = [*TINY, "--data", str(faces), "--held-out", "0.4", "--evaluations", "1"]
    counts = {}
    for steps, micro in ((2, "null"), (5, "null"), (5, "4")):
        more = ["--max-steps", str(steps), "--micro-batch", micro, "--output", f"{steps}{micro}"]
        counts[steps, micro], other = processes.run(
            2, count_collectives, tmp_path, ["train", *options, *more]
        )
        assert counts[steps, micro] == other
    assert counts[5, "4"] == counts[5, "null"]
    per_step = {
        name: (count - counts[2, "null"][name]) / 3 for name, count in counts[5, "null"].items()
    }
    gathers = sum(count for name, count in per_step.items() if "gather" in name)
    # Row counts and rows; the loss, what of it is logged, and whether to stop; gradients.
    assert (gathers, per_step["all_reduce"], per_step["all_to_all_single"]) == (2, 3, 1)


def test_an_error_is_told_once(faces: Path, tmp_path: Path) -> None:
    options = [*TINY, "--data", faces, "--held-out", "0.4", "--output", "run"]
    for more, told in (
        (["--identities", 2], "--identities 2: 3 processes need at least as many"),
        (["--devices", 2], "--devices 2: torchrun says 3; leave the option out"),
    ):
        results = train(3, tmp_path, *options, *more)
        assert [status for status, _, _ in results] == [2] * 3
        errors = sorted(err for _, _, err in results)
        assert errors[:2] == ["", ""]
        assert told in errors[2]
        assert not (tmp_path / "run").exists()


def test_a_run_that_a_launcher_starts_again_finds_itself(faces: Path, tmp_path: Path) -> None:
    options = [*TINY, "--data", faces, "--held-out", "0.4"]
    restarts = {"TORCHELASTIC_MAX_RESTARTS": "3"}
    results = train(2, tmp_path, *options, **restarts)
    assert any("--output: give a folder" in err for _, _, err in results)
    options += ["--output", "run", "--max-steps", 4, "--evaluations", 2]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()  # it ended before it had a checkpoint
    again = restarts | {"TORCHELASTIC_RESTART_COUNT": "1"}
    results = train(2, tmp_path, *options, stop=Stop(rank=0, step=2), **again)
    assert [status for status, _, _ in results] == [130, 130]
    assert last(tmp_path / "run")["global_step"] == 3
    succeed(train(2, tmp_path, *options, **again))
    assert last(tmp_path / "run")["global_step"] == 4


def test_srun_and_a_schedule_fitted_to_the_time(faces: Path, tmp_path: Path) -> None:
    options = [*TINY, "--data", faces, "--held-out", "0.4", "--output", "run"]
    results = train(2, tmp_path, *options, "--max-minutes", 0.2, launcher=as_srun)
    succeed(results)
    assert "the schedule is fitted to" in results[0][1]
    assert last(tmp_path / "run")["global_step"] >= 2


def test_two_processes_distil_as_one_does(everything: Path, tmp_path: Path) -> None:
    """Each has rows of the batch, and draws the teacher's views of all."""
    # AdamW divides by gradients, and in a few weights these are rounding alone.
    options = ["--distil", everything, "--sync-batch-norm", "true", "--negatives", 1]
    options += ["--optimizer", "sgd"]
    for world_size in (1, 2):
        output = f"distilled{world_size}"
        succeed(train(world_size, tmp_path, *options, "--output", output))
    assert_same_run(tmp_path / "distilled2", tmp_path / "distilled1")


def test_two_processes_harmonize_as_one_does(everything: Path, tmp_path: Path) -> None:
    options = [everything, "--new", everything, "--layer-steps", 2, "--steps", 3]
    figures = []
    for world_size in (1, 2):
        output = f"harmonic{world_size}"
        results = facenet(world_size, tmp_path, "harmonize", *options, "--output", output)
        assert [status for status, _, _ in results] == [0] * world_size, results
        assert all((out, err) == ("", "") for _, out, err in results[1:])
        figures.append(json.loads((tmp_path / output / "harmonic.json").read_text()))
    for name, wanted in figures[0]["comparisons"].items():
        assert figures[1]["comparisons"][name] == pytest.approx(wanted, abs=1e-3), name
