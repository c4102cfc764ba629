"""Claims about ``facenet verify``: its decision, where its threshold is from, what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import Command, assert_told, keep_evaluation
from small_runs import TINY
from test_resume import interrupt_before

from facenet_ext.embedding import loading
from facenet_ext.embedding.loading import checkpoint_path, read_checkpoint
from facenet_ext.embedding.operating_points import OperatingPoints, find_operating_points
from facenet_ext.evaluation.verification import curve_as_dict
from facenet_ext.metrics import roc

A, B = "faces/Person_00/Person_00_0001.png", "faces/Person_00/Person_00_0002.png"
OTHER = "faces/Person_03/Person_03_0001.png"


def verify(command: Command, world: Path, first: str, second: str, *more: object) -> Any:
    return command("verify", world / first, world / second, "--checkpoint", world / "old", *more)


def test_the_distance_decides(command: Command, world: Path) -> None:
    status, out, _ = verify(command, world, A, OTHER, "--json")
    figures = json.loads(out)
    best = torch.load(world / "old" / "checkpoints" / "best.ckpt", weights_only=True)
    assert figures["threshold"] == best["facenet_ext"]["evaluation"]["threshold"]
    assert figures["same"] == (figures["distance"] <= figures["threshold"])
    assert status == (0 if figures["same"] else 1)
    assert figures["evaluation"].endswith("old/checkpoints/best.ckpt")
    distance = figures["distance"]
    for threshold, expected in ((distance * 1.001, 0), (distance * 0.999, 1)):
        status, out, err = verify(command, world, A, OTHER, "--threshold", threshold)
        assert status == expected
        assert all(line.startswith("warning: the threshold") for line in err.splitlines())
        assert ("the same person: distance" in out) == (expected == 0)
        assert ("two people: distance" in out) == (expected == 1)
        assert "At evaluation" in out


def test_an_image_is_like_itself(command: Command, world: Path) -> None:
    status, out, _ = verify(command, world, A, A, "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["distance"] == 0


def test_the_order_and_the_kind_of_views(command: Command, world: Path) -> None:
    distances = [
        json.loads(verify(command, world, *pair, "--json", *views)[1])["distance"]
        for pair in ((A, B), (B, A))
        for views in ((), ("--views", "one", "--threshold", 1))
    ]
    assert distances[0] == pytest.approx(distances[2])
    assert distances[1] == pytest.approx(distances[3])
    assert distances[0] != distances[1]


def test_a_false_accept_rate_chooses_the_threshold(command: Command, world: Path) -> None:
    points = find_operating_points(checkpoint_path(str(world / "old")))
    for far in (0.05, 0.3, 1.0):
        figures = json.loads(verify(command, world, A, B, "--far", far, "--json")[1])
        assert figures["threshold"] == points.threshold_at(far)
        assert figures["far_at_evaluation"] <= far
    result = verify(command, world, A, B, "--far", 1e-9)
    assert_told(result, "--far 1e-09: the evaluation in", "evaluate more pairs")


def test_far_is_that_of_the_listed_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    distances = (torch.rand(5000, generator=generator) * 100).round() / 50
    same = torch.rand(5000, generator=generator) < 0.3
    curve = roc(distances, same)
    stored = curve_as_dict(curve)
    points = OperatingPoints(1.0, *stored.values(), Path())  # type: ignore[arg-type]
    different = distances[~same].double()
    for threshold in (0.0, 0.011, 0.5, 1.01, 1.999, 2.0, 3.0):
        expected = (different <= threshold).double().mean().item()
        assert points.far_at(threshold) == pytest.approx(expected, abs=1 / 50 + 1e-9)
        assert points.far_at(threshold) >= expected - 1e-12, "never told too low"
    for far in (0.01, 0.2, 0.77, 1.0):
        threshold = points.threshold_at(far)
        assert (different <= threshold).double().mean().item() <= far
        assert (different <= threshold + 0.021).double().mean().item() > far or far == 1.0


def test_a_rate_that_is_reached_exactly_is_allowed() -> None:
    points = OperatingPoints(1.0, [0.5, 1.0, 2.0], [0.2, 0.6, 1.0], [0.25, 0.5, 1.0], Path())
    found = [points.threshold_at(far) for far in (0.25, 0.49, 0.5, 0.99, 1.0)]
    assert found == [0.5, 0.5, 1.0, 1.0, 2.0]
    assert [points.far_at(at) for at in (0.5, 0.6, 1.0, 3.0)] == [0.25, 0.5, 0.5, 1.0]


def test_a_long_curve_keeps_its_small_rates() -> None:
    distances = torch.arange(40_000).double()
    curve = curve_as_dict(roc(distances, torch.arange(40_000) % 2 == 0))
    assert 300 < len(curve["far"]) < 600
    assert curve["far"][:6] == pytest.approx([n / 20_000 for n in range(6)])
    assert curve["far"][-1] == 1.0
    assert curve["far"] == sorted(curve["far"])


def test_an_evaluation_of_the_checkpoint_comes_first(
    command: Command, world: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(world / "old", run)
    metrics = json.loads((run / "metrics.json").read_text())
    keep_evaluation(run / "checkpoints" / "best.ckpt", None)  # as an older version wrote it
    _, out, _ = command("verify", world / A, world / B, "--checkpoint", run, "--json")
    assert json.loads(out)["threshold"] == metrics["threshold"]
    (run / "metrics.json").unlink()
    result = command("verify", world / A, world / B, "--checkpoint", run)
    assert_told(result, "has no evaluation beside it", "facenet evaluate", "--threshold")
    status, out, _ = command(
        "verify", world / A, world / B, "--checkpoint", run, "--threshold", 3.9, "--json"
    )
    assert status == 0
    assert json.loads(out)["far_at_evaluation"] is None


def test_each_checkpoint_is_used_with_thresholds_of_its_own(
    command: Command, world: Path, tmp_path: Path
) -> None:
    """Of two evaluations in a run, and of what an older or a longer run left beside it."""
    run = tmp_path / "run"
    shutil.copytree(world / "old", run)
    metrics = json.loads((run / "metrics.json").read_text())
    last, best = (
        find_operating_points(run / "checkpoints" / f"{n}.ckpt") for n in ("last", "best")
    )
    assert last.threshold == metrics["threshold"]
    kept = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["facenet_ext"]
    assert best.threshold == kept["evaluation"]["threshold"]
    (run / "metrics.json").write_text(json.dumps(metrics | {"threshold": 0.123, "steps": 1}))
    assert find_operating_points(run / "checkpoints" / "last.ckpt") == last


def test_a_run_that_was_stopped_after_an_evaluation_can_verify(
    command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*TINY, "--data", world / "faces", "--max-steps", 9, "--evaluations", 3]
    for step, told in ((1, "has no evaluation beside it"), (3, None)):
        with monkeypatch.context() as patch:
            interrupt_before(step, patch)
            assert command("train", *options, "--output", f"stopped-{step}")[0] == 130
        assert not Path(f"stopped-{step}/metrics.json").exists()
        checkpoint = f"stopped-{step}/checkpoints/last.ckpt"
        result = command("verify", world / A, world / A, "--checkpoint", checkpoint)
        if told:
            assert_told(result, told)
        else:
            assert result[0] == 0
            assert "At evaluation " in result[1]


def test_a_checkpoint_is_hashed_once_and_its_facts_are_read_once(
    command: Command, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it takes longer than embedding two images; one written since is read again."""
    run = tmp_path / "run"
    shutil.copytree(world / "old", run)
    best = run / "checkpoints" / "best.ckpt"
    reads: list[object] = []

    def read(path: object, *arguments: object) -> Any:
        reads.append(path)
        return read_checkpoint(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "read_checkpoint", read)
    assert command("verify", world / A, world / A, "--checkpoint", run)[0] == 0
    assert reads == [best, best], "the weights and the facts, once each"
    before = loading.file_hash(best), loading.read_facts(best)["evaluation"]
    keep_evaluation(best, None)
    assert loading.file_hash(best) == hashlib.sha256(best.read_bytes()).hexdigest() != before[0]
    assert loading.read_facts(best)["evaluation"] is None is not before[1]


def test_the_latest_run_is_the_default(command: Command, world: Path) -> None:
    assert_told(command("verify", world / A, world / B), "--checkpoint: no run in runs/")
    shutil.copytree(world / "old", "runs/faces-1")
    status, out, _ = command("verify", world / A, world / A, "--json")
    assert status == 0
    assert json.loads(out)["evaluation"].endswith("runs/faces-1/checkpoints/best.ckpt")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{a}", "nowhere.png"], "nowhere.png: no such image"),
        (["{a}", "{world}/faces"], "faces: no such image"),
        (["{a}", "text.txt"], "text.txt: cannot identify image file"),
        (["{a}", "{a}", "--threshold", "0"], "threshold"),
        (["{a}", "{a}", "--threshold", "1", "--far", "0.1"], "--threshold and --far"),
        (["{a}", "{a}", "--far", "-1"], "far"),
        (["{a}"], "second"),
        (["{a}", "{a}", "--checkpoint", "text.txt"], "text.txt"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, world: Path
) -> None:
    Path("text.txt").write_text("no image")
    filled = [a.format(a=world / A, world=world) for a in arguments]
    if "--checkpoint" not in filled:
        filled += ["--checkpoint", str(world / "old")]
    assert_told(command("verify", *filled), told)
