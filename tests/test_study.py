"""The study behind the defaults for faces: its plan, its split of the people, its table."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

pytest.importorskip("jsonargparse", reason="the training script's options")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path += [str(ROOT), str(ROOT / "tests" / "train")]

from benchmarks import pages, study  # noqa: E402
from facenet_ext.cli.train_options import parse  # noqa: E402
from facenet_ext.embedding.options import Options  # noqa: E402

PRESET, RUNS = study.plan()
ALIGNED = study.plan(study.PLAN.with_stem("study_aligned"))[1]


def options_of(run: study.Run, folder: Path) -> Options:
    config = folder / "config.yaml"
    given = {name: value for name, value in run.options.items() if name != "align"}
    config.write_text(yaml.safe_dump(given))
    return parse(["--preset", PRESET, "--config", str(config), "--data", "faces"], "study")[0]


@pytest.mark.parametrize("runs", [RUNS, ALIGNED], ids=study.PLANS)
def test_every_run_changes_what_it_says(runs: list[study.Run], tmp_path: Path) -> None:
    """Its options are ones there are, and no two runs are one."""
    seen = [options_of(run, tmp_path).flat() for run in runs]
    for place, options in enumerate(seen):
        assert options not in seen[:place], runs[place].name
    assert len({run.name for run in runs}) == len(runs)


def test_runs_see_as_many_images() -> None:
    """What is learned from more images is no comparison."""
    base = 500 * (96 * 3 + 96 * 2)
    for run in RUNS:
        o = {"identities": 96, "negatives": 96, "negative_copies": 2} | run.options
        mined = 96 if "mine_every" in o else 0
        batch = o["identities"] * 3 + o["negatives"] * o["negative_copies"] + mined
        assert o["max_steps"] * batch == base, run.name


def test_recorded_outcomes_are_those_of_the_plan() -> None:
    for name, runs in zip(study.PLANS, (RUNS, ALIGNED), strict=True):
        recorded = study.recorded(study.RESULTS.with_stem(name))
        assert recorded
        for outcome in recorded:
            assert any(run.options == outcome.options for run in runs), outcome


def people(root: Path) -> Path:
    """Eleven people with two images each, all but one in the pairs."""
    lines = ["5\t1"]
    for fold in range(5):
        first, second = f"P{2 * fold}", f"P{2 * fold + 1}"
        lines += [f"{first}\t1\t2", f"{first}\t1\t{second}\t2"]
    for number in range(11):
        (root / "train" / f"P{number}").mkdir(parents=True)
        (root / "train" / f"P{number}" / f"P{number}_0001.jpg").write_text("")
    (root / "pairs_train.txt").write_text("\n".join(lines) + "\n")
    return root


def test_the_split_keeps_people_apart(tmp_path: Path) -> None:
    root = people(tmp_path / "lfw")
    folder = study.split(root, tmp_path / "split")
    assert study.split(root, folder) == folder  # over its own result
    train, val = ({path.name for path in (folder / part).iterdir()} for part in ("train", "val"))
    assert val == {"P4", "P5", "P8", "P9"}
    assert train == {"P0", "P1", "P2", "P3", "P6", "P7", "P10"}
    assert (folder / "val" / "P4" / "P4_0001.jpg").is_file()
    pairs = (folder / "pairs.txt").read_text().splitlines()
    assert pairs == ["2\t1", "P4\t1\t2", "P4\t1\tP5\t2", "P8\t1\t2", "P8\t1\tP9\t2"]
    assert (root / "train" / "P4" / "P4_0001.jpg").is_file()


def outcome(choice: str, variant: str, seed: int, accuracy: float) -> study.Outcome:
    return study.Outcome(choice, variant, seed, {}, accuracy, accuracy + 0.1, 0.1, 0.5, 2.0, None)


def test_the_table_compares_each_seed_with_the_starts() -> None:
    base = [outcome(study.BASE, "", seed, a) for seed, a in enumerate([0.8, 0.82, 0.84])]
    wide = [outcome("network", "wide", seed, a) for seed, a in enumerate([0.81, 0.84])]
    deep = [outcome("network", "deep", 0, 0.79)]
    rows = study.rows([*base, *wide, *deep])
    base_row = [study.BASE, "", "92.00 ± 2.00", "", "82.00 ± 2.00", "", "10.0", "2.0"]
    assert rows[0] == base_row
    assert rows[1][:6] == ["network", "wide", "92.50 ± 2.12", "+1.50", "82.50 ± 2.12", "+1.50"]
    assert rows[2][:6] == ["", "deep", "89.00", "-1.00", "79.00", "-1.00"]
    assert {len(row) for row in rows} == {len(study.COLUMNS)}


@pytest.mark.ci
def test_a_run_is_trained_and_its_report_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and again after a kill before its first checkpoint; then only read."""
    from small_runs import TINY, write_faces, write_pairs

    data = tmp_path / "faces"
    write_faces(data / "train", {f"Person_{i:02d}": 4 for i in range(6)})
    write_faces(data / "val", {f"Person_{i:02d}": 4 for i in range(6, 10)})
    write_pairs(data / "pairs.txt")
    names = [name.removeprefix("--").replace("-", "_") for name in TINY[::2]]
    options = dict(zip(names, map(yaml.safe_load, TINY[1::2]), strict=True))
    del options["threads"]
    run = study.Run("network", "tiny", 3, {**options, "seed": 3, "flip": False})
    monkeypatch.setattr(study, "SCRATCH", tmp_path / "out")
    (tmp_path / "out" / run.name).mkdir(parents=True)
    (tmp_path / "out" / run.name / "config.yaml").write_text("of a killed run")
    found = study.train(run, PRESET, data, threads=1)
    assert (found.choice, found.seed, found.options) == ("network", 3, run.options)
    assert 0 <= found.accuracy <= 1
    assert found.minutes > 0
    assert study.train(run, PRESET, data, threads=1) == found
    broken = dataclasses.replace(run, options=run.options | {"identities": 99})
    with pytest.raises(RuntimeError, match="--identities 99: of 6 people to train on 6 have"):
        study.train(broken, PRESET, data, threads=1)


def test_runs_learn_from_faces_cut_out_but_for_those_that_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "study.yaml"
    plan.write_text(
        "{preset: faces, align: {size: 64, detector: 'detectors:one'}, every: {max_steps: 2}, "
        "base: {}, choices: {faces: {not aligned: {align: false}}}}"
    )
    root = people(tmp_path / "lfw")
    (root / "val").mkdir()
    for path in (root / "train").rglob("*.jpg"):
        Image.new("RGB", (100, 100), (99, 99, 99)).save(path)
    seen: dict[str, tuple[int, int]] = {}

    def train(run: study.Run, preset: str, data: Path, threads: int) -> study.Outcome:
        with Image.open(next((data / "train").glob("*/*.jpg"))) as image:
            seen[run.variant] = image.size
        return dataclasses.replace(
            outcome(run.choice, run.variant, run.seed, 0.8), options=run.options
        )

    monkeypatch.setattr(study, "PLAN", plan)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results" / "study.json")
    monkeypatch.setattr(study, "SCRATCH", tmp_path / "out")
    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(pages, "write", lambda tell: None)
    monkeypatch.setenv(
        "PYTHONPATH", f"{ROOT / 'tests' / 'train'}:{os.environ.get('PYTHONPATH', '')}"
    )
    monkeypatch.setattr(sys, "argv", ["study", str(root), "--jobs", "1"])
    study.main()
    assert seen == {"": (64, 64), "not aligned": (100, 100)}


def test_data_without_pairs_of_training_people_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        (tmp_path / "lfw" / part).mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["study", str(tmp_path / "lfw")])
    with pytest.raises(SystemExit):
        study.main()
    assert "has no pairs_train.txt" in capsys.readouterr().err


def test_what_is_recorded_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tmp_path / "study.yaml"
    plan.write_text(
        "{preset: faces, every: {max_steps: 2}, base: {seeds: [0, 1]}, "
        "choices: {margin: {'0.4': {margin: 0.4}}}}"
    )
    trained: list[str] = []

    def train(run: study.Run, preset: str, data: Path, threads: int) -> study.Outcome:
        trained.append(run.name)
        return dataclasses.replace(
            outcome(run.choice, run.variant, run.seed, 0.8), options=run.options
        )

    monkeypatch.setattr(study, "PLAN", plan)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results" / "study.json")
    monkeypatch.setattr(study, "SCRATCH", tmp_path / "out")
    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(pages, "write", lambda tell: None)  # of the repository
    data = str(people(tmp_path / "lfw"))
    (tmp_path / "lfw" / "val").mkdir()
    for only, expected in (("margin", ["margin-0p4-0"]), ("", ["the-start-0", "the-start-1"])):
        trained.clear()
        monkeypatch.setattr(sys, "argv", ["study", data, "--jobs", "1", "--only", only])
        study.main()
        assert trained == expected
    recorded = json.loads(study.RESULTS.read_text())
    assert [o["variant"] for o in recorded["outcomes"]] == ["", "", "0.4"]
