"""Claims about who is held out: a run names them, and everything that evaluates keeps to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from command_runs import Command, assert_told
from rich.console import Console
from small_runs import TINY, Facenet, write_faces, write_pairs

from facenet_ext.data.pairs_file import read_pairs
from facenet_ext.embedding.options import DataOptions
from facenet_ext.evaluation.held_out import choose, read_names, write_names
from facenet_ext.train.data import load


def test_names_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = {"Ann", "张伟", "a b", " ", "back\\slash", "\\n", "two\nlines", "caf\udce9", "\r"}
    write_names(tmp_path, names)
    assert read_names(tmp_path) == names
    assert "Ann\n" in (tmp_path / "held_out.txt").read_bytes().decode("utf-8", "replace")
    assert b"caf\xe9\n" in (tmp_path / "held_out.txt").read_bytes()
    assert read_names(tmp_path / "none") is None


def test_a_run_names_whom_it_verifies_on(facenet: Facenet, faces: Path) -> None:
    assert facenet("--data", faces, "--held-out", 0.4, "--output", "a")[0] == 0
    assert read_names(Path("a")) == choose({path.name for path in faces.iterdir()}, 0.4)
    pairs = write_pairs(faces.parent / "pairs.txt")
    assert facenet("--data", faces, "--pairs", pairs, "--output", "b")[0] == 0
    assert read_names(Path("b")) == {f"Person_{number:02d}" for number in range(6, 10)}
    labels = np.arange(200) % 10
    np.savez("f.npz", features=np.random.default_rng(0).normal(size=(200, 8)), labels=labels)
    for data, names in (("digits", {*range(6, 10)}), ("f.npz", choose(range(10), 0.2))):
        found = load(DataOptions(data), Console(quiet=True)).held_out
        assert set(found) == {str(name) for name in names}


def test_people_who_come_later_change_nothing(command: Command, tmp_path: Path) -> None:
    """Neither for a run that goes on, nor for its evaluation."""
    faces = write_faces(tmp_path / "faces", {f"Person_{i:02d}": 4 for i in range(10)})
    options = [*TINY, "--data", faces, "--held-out", 0.4, "--output", "run"]
    assert command("train", *options)[0] == 0
    names, before = read_names(Path("run")), Path("run/metrics.json").read_text()
    assert names is not None
    newcomers = {f"Another_{i:02d}": 4 for i in range(10)}
    write_faces(faces, newcomers)
    assert not names <= choose({path.name for path in faces.iterdir()}, 0.4)
    status, out, _ = command("train", "--resume", "run", "--max-steps", 4)
    assert status == 0
    assert "verify 16 images of 4 identities" in out
    assert Path("run/metrics.json").read_text() == before
    assert read_names(Path("run")) == names
    evaluate = ("evaluate", "--checkpoint", "run", "--quality", 0, "--json")
    status, out, _ = command(*evaluate)
    assert status == 0
    figures = json.loads(out)
    assert figures["images"] == 16
    assert not [text for text in figures["warnings"] if "was trained on" in text]
    # Whoever names the folder itself verifies everyone, and is told so.
    status, out, err = command(*evaluate, "--data", faces, "--output", "all")
    assert status == 0
    told = [text for text in json.loads(out)["warnings"] if "was trained on" in text]
    assert len(told) == 1
    assert told[0].startswith("the model was trained on 16 of these 20 people: ")
    assert f"warning: {told[0]}" in err
    # People elsewhere are others.
    others = write_faces(tmp_path / "others", {f"Person_{i:02d}": 4 for i in range(10)})
    status, out, _ = command(*evaluate, "--data", others, "--output", "others_report")
    assert status == 0
    assert not [text for text in json.loads(out)["warnings"] if "was trained on" in text]


def test_pairs_of_every_format_are_held_out_verified_and_evaluated(
    command: Command, facenet: Facenet, faces: Path
) -> None:
    """A ``.csv`` of the same pairs is the same protocol, in a run and after it."""
    rows = ["first,second,same,fold"]
    for _, first, second, same, fold in read_pairs(write_pairs(Path("pairs.txt"))).pairs:
        rows.append(f"{first}.png,{second}.png,{int(same)},{int(fold)}")
    Path("pairs.csv").write_text("\n".join(rows))
    for ending in ("txt", "csv"):
        options = ("--data", faces, "--pairs", f"pairs.{ending}", "--output", ending)
        assert facenet(*options)[::2] == (0, "")
        assert read_names(Path(ending)) == {f"Person_{number:02d}" for number in range(6, 10)}
    assert Path("txt/metrics.json").read_text() == Path("csv/metrics.json").read_text()
    status, out, _ = command("evaluate", "--checkpoint", "csv", "--quality", 0, "--json")
    assert status == 0
    figures, before = json.loads(out), json.loads(Path("csv/metrics.json").read_text())
    assert (figures["protocol"], figures["images"]) == ("pairs.csv", 8)
    assert figures["pairs"] == before["pairs"] == {"same": 4, "different": 4, "folds": 2}
    Path("splits.txt").write_text("split, first, second, same\n1, A/0, B/0, 0\n")
    told = "--pairs splits.txt: names videos; a run verifies images"
    assert_told(facenet("--data", faces, "--pairs", "splits.txt"), told)


def test_a_run_is_evaluated_on_whom_it_held_out_whatever_pairs_lie_beside(
    command: Command, facenet: Facenet, faces: Path
) -> None:
    write_pairs(faces / "pairs.txt")
    assert facenet("--data", faces, "--held-out", 0.4, "--output", "run")[0] == 0
    names = read_names(Path("run"))
    evaluate = ("evaluate", "--checkpoint", "run", "--quality", 0, "--json")
    before = json.loads(Path("run/metrics.json").read_text())
    for _ in ("as the run says", "as an older one, which says nothing"):
        figures = json.loads(command(*evaluate)[1])
        assert (figures["protocol"], figures["pairs"]) == ("all pairs", before["pairs"])
        assert not [text for text in figures["warnings"] if "was trained on" in text]
        Path("run/held_out.txt").unlink(missing_ok=True)
    assert names == choose({path.name for path in faces.iterdir() if path.is_dir()}, 0.4)
    figures = json.loads(command(*evaluate, "--data", faces)[1])
    assert figures["protocol"] == "pairs.txt"
