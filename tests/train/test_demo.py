"""The demo: every command of it runs, one after the other, and what it drew is there."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_runs import TINY, write_faces, write_pairs

from facenet_ext import cli

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "examples").is_dir():
    pytest.skip("examples/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from examples import demo  # noqa: E402


def test_the_demo_goes_from_images_to_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "faces"
    write_faces(data / "train", {f"Person_{i:02d}": 4 for i in range(6)})
    write_faces(data / "val", {f"Person_{i:02d}": 4 for i in range(6, 11)})
    write_pairs(data / "pairs.txt")
    called: list[str] = []

    def facenet(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
        called.append(str(arguments[0]))
        assert cli.main([str(argument) for argument in arguments]) in allowed

    monkeypatch.setattr(demo, "facenet", facenet)
    options = ["--output", "out", "--pictures", str(tmp_path), "--train", shlex.join(TINY)]
    assert demo.main([str(data), *options]) == 0
    steps = ["evaluate", "verify", "verify", "embed", "identify", "cluster"]
    assert called == ["train", *steps]
    assert "VAL at FAR" in capsys.readouterr().out
    for name in ("roc", "mistakes", "cluster"):
        with Image.open(tmp_path / f"demo_{name}.png") as picture:
            assert picture.width == 560
    assert Path("out/identified/identified.csv").is_file()
    gallery = {path.name for path in Path("out/gallery").iterdir()}
    assert len(gallery) == 4, "one of five is left out"
    assert len(list(Path("out/probes").iterdir())) == 5
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
