"""The demo: every command of it runs, one after the other, and what it drew is there."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from small_runs import TINY, write_faces

from facenet_ext import cli

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "examples").is_dir():
    pytest.skip("examples/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from examples import demo  # noqa: E402


@pytest.mark.ci
def test_the_demo_goes_from_images_to_clusters_of_people_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_faces(tmp_path / "faces", {f"Person_{i:02d}": 4 for i in range(12)})
    called: list[str] = []
    used: set[str] = set()

    def facenet(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
        called.append(str(arguments[0]))
        if arguments[0] == "verify":
            used.update(Path(str(argument)).parent.name for argument in arguments[1:3])
        if arguments[0] == "cluster":
            used.update(path.name for path in Path(str(arguments[1])).iterdir())
        assert cli.main([str(argument) for argument in arguments]) in allowed

    monkeypatch.setattr(demo, "facenet", facenet)
    train = shlex.join([*TINY, "--held-out", "0.4"])
    options = ["--output", "out", "--pictures", str(tmp_path), "--train", train]
    assert demo.main([str(data), *options]) == 0
    steps = ["evaluate", "verify", "verify", "embed", "identify", "cluster"]
    assert called == ["train", *steps]
    assert "VAL at FAR" in capsys.readouterr().out
    for name in ("roc", "mistakes", "cluster"):
        with Image.open(tmp_path / f"demo_{name}.png") as picture:
            assert picture.width == 560
    assert Path("out/identified/identified.csv").is_file()
    unseen = set(Path("out/run/held_out.txt").read_text().split())
    assert len(unseen) == 5
    assert used == unseen
    gallery = {path.name for path in Path("out/gallery").iterdir()}
    assert gallery < unseen
    assert len(gallery) == 4, "one of five is left out"
    assert {path.name for path in Path("out/probes").iterdir()} == unseen
    called.clear()
    assert demo.main([str(data), *options]) == 0
    assert called == steps, "the training is not done again"


@pytest.mark.ci
def test_digits_are_recognised_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real images, of classes that the network has not seen, through every command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def facenet(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
        assert cli.main([str(argument) for argument in arguments]) in allowed

    monkeypatch.setattr(demo, "facenet", facenet)
    assert demo.main(["--output", "out", "--train", "--max-steps 60 --evaluations 1"]) == 0
    assert "the same person: distance" in capsys.readouterr().out
    figures = json.loads(Path("out/run/evaluation/metrics.json").read_text())
    assert figures["accuracy"]["mean"] > 0.7
    with Path("out/identified/identified.csv").open() as file:
        first = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    known = {path.name for path in Path("out/gallery").iterdir()}
    answers = [(row["identity"], row["probe"].split("/")[0]) for row in first]
    right = [found == true for found, true in answers if true in known]
    assert len(known) == 3
    assert sum(right) > 0.85 * len(right)
    clusters = json.loads(Path("out/clusters/summary.json").read_text())
    assert clusters["scores"]["bcubed_precision"] > 0.7


def test_digits_are_written_as_files(tmp_path: Path) -> None:
    root = demo.write_digits(tmp_path / "digits")
    assert len(list((root / "train").iterdir())) == 48
    assert len(list((root / "val").iterdir())) == 4
    assert demo.write_digits(root) == root


def test_ctrl_c_lets_a_command_end_in_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and saves what it does before it ends."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\ntrap 'sleep 0.4; echo told >>saved; exit 130' INT\n"
        "touch started; while :; do sleep 0.02; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    def press() -> None:
        while not Path("started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(SystemExit, match="130"):
        demo.facenet("train")
    assert Path("saved").read_text() == "told\n"
