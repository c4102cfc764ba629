"""The site leaves nothing out: every page, module, rule and recorded figure has its place."""

from __future__ import annotations

import json
import re

import pytest
from pages import ROOT

import facenet_ext

pytest.importorskip("rich", reason="the benchmark's tables")

from benchmarks import pages as figures

DOCS = ROOT / "docs"
NO_LIBRARY = {"facenet_ext", "cli", "commands", "ops", "train"}


def test_every_public_module_is_in_the_reference() -> None:
    shown = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    }
    sources = [*(ROOT / "facenet_ext").glob("*.py"), *(ROOT / "facenet_ext").glob("*/__init__.py")]
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in sources}
    public = {f"facenet_ext.{name}" for name in modules - NO_LIBRARY if not name.startswith("_")}
    assert shown == public


@pytest.mark.parametrize("choices", ["POSITIVES", "NEGATIVES", "TRIPLETS", "FALLBACKS"])
@pytest.mark.parametrize("page", ["rules", "semantics"])
def test_every_choice_is_explained(choices: str, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    for choice in getattr(facenet_ext._validation, choices):
        assert f'"{choice}"' in text


def test_the_figures_are_those_of_the_recorded_run() -> None:
    page = (DOCS / "performance.md").read_text()
    asked = re.findall(r"^<!-- figures: (.+) -->$", page, re.MULTILINE)
    filled = {what: figures.figures(what) for what in asked}
    recorded = json.loads(figures.RESULTS.read_text())
    assert "training" in asked
    for operator in {entry["operator"] for entry in recorded["times"]}:
        assert f"times {operator}" in asked
    for target in recorded["targets"]:
        unit = figures.seconds if target["quantity"] == "time" else figures.mebibytes
        row = rf"\| {target['quantity']}, {target['case']}[^|]* \| {unit(target['ours'])} \|"
        assert re.search(row, filled["targets"])
    assert recorded["machine"]["cpu"] in filled["machine"]


def test_pages_write_no_measured_figure_down() -> None:
    """Times and sizes come from the recorded run, so that they cannot go stale."""
    for page in (DOCS / "performance.md", DOCS / "rules.md", DOCS / "index.md", ROOT / "README.md"):
        assert not re.findall(r"\b[\d.]+ (?:ms|µs|MiB)\b", page.read_text()), page.name


def test_what_cannot_be_asked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected one of machine"):
        figures.figures("nonsense")
