"""Claims about ``facenet compare``: from two evaluations to a verdict, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_runs import Command, assert_told
from test_report import Page


@pytest.fixture
def runs(command: Command, world: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs, evaluated on the same faces."""
    found = []
    for name in ("old", "new"):
        shutil.copytree(world / name, tmp_path / name)
        options = ("--checkpoint", name, "--data", world / "faces", "--quality", 0)
        assert command("evaluate", *options)[0] == 0
        found.append(Path(name))
    return found[0], found[1]


def figures_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0, err
    return json.loads(out)


def test_two_runs(command: Command, runs: tuple[Path, Path], world: Path) -> None:
    figures = figures_of(command("compare", *runs, "--json"))
    kept = [json.loads((run / "evaluation/metrics.json").read_text()) for run in runs]
    for key, of in (
        ("accuracy", lambda one: one["accuracy"]["mean"]),
        ("auc", lambda one: one["auc"]),
        ("eer", lambda one: one["eer"]),
        ("fnmr_at_fmr_0.01", lambda one: one["summary"]["figures"]["fnmr_at_fmr_0.01"]["value"]),
    ):
        figure = figures["figures"][key]
        assert figure["a"] == pytest.approx(of(kept[0]))
        assert figure["b"] == pytest.approx(of(kept[1]))
        assert figure["difference"] == pytest.approx(figure["b"] - figure["a"])
        low, high = figure["interval"]
        assert low < figure["difference"] < high
        assert 0 <= figure["b_better"] <= 1
    assert figures["pairs"] == {"same": 72, "different": 1254}
    assert figures["identities"] == kept[0]["identities"] == 16
    assert figures["a"]["run"] == kept[0]["run"]
    assert figures["a"]["folder"] == "old"
    assert figures["b"]["command"] == kept[1]["command"]
    # The model knows most of these people, which the evaluation said.
    assert figures["warnings"] == [
        f"{letter}: {text}"
        for letter, one in zip("AB", kept, strict=True)
        for text in one["warnings"]
    ]
    assert figures["warnings"]
    swapped = figures_of(command("compare", *runs[::-1], "--json"))
    assert swapped["better"] == {"A": "B", "B": "A", None: None}[figures["better"]]
    status, out, err = command("compare", *runs)
    assert status == 0
    assert out.splitlines()[0].startswith("A: old, ")
    assert out.splitlines()[-1] == figures["verdict"]
    assert "the same 72 same and 1,254 different pairs of 16 identities" in out
    assert err.splitlines() == [f"warning: {text}" for text in figures["warnings"]]


def test_a_run_and_itself_by_the_folder_of_its_evaluation(
    command: Command, runs: tuple[Path, Path]
) -> None:
    figures = figures_of(command("compare", runs[0], runs[0] / "evaluation", "--json"))
    assert figures["better"] is None
    assert {figure["difference"] for figure in figures["figures"].values()} == {0}
    assert figures["verdict"].startswith("Cannot tell which is better")
    _, out, _ = command("compare", runs[0], runs[0])
    assert "cannot tell" in out


def test_the_report_is_one_file(command: Command, runs: tuple[Path, Path]) -> None:
    options = ("--output", "compared", "--fmr", 0.05)
    status, out, _ = command("compare", *runs, *options)
    assert status == 0
    assert out.endswith("report.html and comparison.json are in compared\n")
    figures = json.loads(Path("compared/comparison.json").read_text())
    assert figures["decisive"] == "fnmr_at_fmr_0.05"
    page = Page(Path("compared/report.html"))
    assert page.headings == ["Differences", "What was compared", "Error rates"]
    assert len(page.pictures) == 1
    assert page.fetched == []
    assert page.facts["Pairs"] == "all pairs: 72 of one person, 1,254 of two of 16 people"
    assert figures["verdict"] in page.text.replace("&#39;", "'")
    assert page.text.count("facenet evaluate --checkpoint") == 2


def test_what_it_cannot_do_is_one_line(
    command: Command, runs: tuple[Path, Path], world: Path
) -> None:
    old, new = runs
    assert_told(command("compare", old, "nowhere"), "nowhere: no such folder")
    assert_told(
        command("compare", world / "old", new),
        "has no pairs of an evaluation (evaluation/pairs.parquet is missing)",
        "make them with 'facenet evaluate'",
    )
    assert_told(command("compare", old), "run_b: missing")
    assert_told(command("compare", old, new, "--fmr", 2), "--fmr 2: expected a rate in (0, 1]")
    assert_told(command("compare", old, new, "--fmr", 1e-9), "--fmr 1e-09: not reachable")
    assert_told(
        command("compare", old, new, "--output", old / "config.yaml/x"), "cannot be written"
    )
    people = sorted(path.name for path in (world / "faces").iterdir())[:10]
    for name in people:
        shutil.copytree(world / "faces" / name, Path("fewer") / name)
    options = ("--data", "fewer", "--quality", 0, "--output", "on_fewer")
    assert command("evaluate", "--checkpoint", new, *options)[0] == 0
    assert_told(command("compare", old, "on_fewer"), "on other images or pairs (1,326 and 780)")
    (new / "evaluation/pairs.parquet").write_bytes(b"nothing")
    assert_told(command("compare", old, new), "pairs.parquet: is damaged, or no file of")
