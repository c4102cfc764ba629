"""The site leaves nothing out: every page, module, rule and recorded figure has its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT

from benchmarks import pages as figures
from facenet_ext._rule import FALLBACKS, NEGATIVES, POSITIVES
from facenet_ext._validation import TRIPLETS

DOCS = ROOT / "docs"
APPLICATION = {"cli", "commands", "common", "data", "embedding", "evaluation", "train"}
NO_LIBRARY = {"facenet_ext", "ops", *APPLICATION}


def test_every_public_module_is_in_the_reference() -> None:
    shown = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    }
    sources = [*(ROOT / "facenet_ext").glob("*.py"), *(ROOT / "facenet_ext").glob("*/__init__.py")]
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in sources}
    public = {f"facenet_ext.{name}" for name in modules - NO_LIBRARY if not name.startswith("_")}
    assert shown == public | {"facenet_ext.InputError"}  # from common/, which is not shown


@pytest.mark.parametrize("choices", [POSITIVES, NEGATIVES, TRIPLETS, FALLBACKS])
@pytest.mark.parametrize("page", ["rules", "semantics"])
def test_every_choice_is_explained(choices: tuple[str, ...], page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    for choice in choices:
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


@pytest.mark.parametrize("path", figures.PAGES, ids=lambda path: path.name)
def test_pages_show_the_recorded_figures(path: Path) -> None:
    """They are read on GitHub too, where nothing fills them in."""
    page = path.read_text()
    assert page == figures.filled(page), "run python -m benchmarks.pages"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/emulation.md"])
def test_pages_say_that_no_gpu_has_run_the_kernels(page: str) -> None:
    """Until `make gpu-check` has recorded one."""
    recorded = {path.stem for path in figures.RESULTS.parent.glob("*.json")}
    without = {
        "committees",
        "cpu",
        "cuda_predicted",
        "input",
        "scale",
        "speakers",
        "study",
        "study_aligned",
        "use",
    }
    met = bool(recorded - without)
    says_not = re.search(r"have not met a GPU yet|on no GPU yet", (ROOT / page).read_text())
    assert bool(says_not) != met, f"{page}: GPUs that ran the kernels: {recorded}"


def test_pages_write_no_measured_figure_down() -> None:
    """Times and sizes come from the recorded run, so that they cannot go stale."""
    for page in (DOCS / "performance.md", DOCS / "rules.md", DOCS / "index.md", ROOT / "README.md"):
        by_hand = figures.without_figures(page.read_text())
        assert not re.findall(r"\b[\d.]+ (?:ms|µs|MiB)\b", by_hand), page.name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_need_no_extension_to_be_read(path: Path) -> None:
    """Neither lines that include a file nor formulas in a way that GitHub does not know."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"--8<--|\\[(\[]", text)
    for formula in re.findall(r"\$(.+?)\$", re.sub(r"\s", " ", text)):
        assert not re.search(r"\\[^A-Za-z ]", formula), f"GitHub drops the backslash: {formula}"


def test_figures_that_do_not_end_are_an_error() -> None:
    before, after = "before\n", "after\n"
    block = "<!-- figures: study-machine -->\nold\n<!-- /figures -->\n"
    page = before + block + after
    assert figures.without_figures(page) == f"{before}\n{after}"
    new = figures.filled(page)
    assert "old" not in new
    assert new.startswith(before + "<!-- figures: study-machine -->\n\nAMD")
    assert new.endswith("<!-- /figures -->\n" + after)
    assert figures.filled(new) == new
    with pytest.raises(ValueError, match="study-machine -->: expected a line <!-- /figures -->"):
        figures.filled(page.replace("<!-- /figures -->", "") + block)


def test_what_cannot_be_asked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected one of machine"):
        figures.figures("nonsense")
