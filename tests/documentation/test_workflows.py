"""The workflows build and test what pyproject.toml promises, with pinned actions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def only(pattern: str, text: str) -> str:
    """What the group of a pattern matches, always the same."""
    (value,) = set(re.findall(pattern, text, re.MULTILINE))
    return str(value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_permissions_are_few(path: Path) -> None:
    text = path.read_text()
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert set(re.findall(r"\w[\w-]*: write", text)) <= {"id-token: write"}
    assert "secrets." not in text
    assert "# Run by hand: " in text
    assert "Never run: " in text


def test_the_matrix_begins_with_the_oldest_that_is_promised() -> None:
    matrix = (ROOT / ".github/workflows/compatibility.yml").read_text()
    pythons = json.loads(only(r"^ +python: (\[.*\])$", matrix))
    assert pythons[0] == only(r'^requires-python = ">=(.*)"$', PYPROJECT)
    assert json.loads(only(r"^ +torch: (\[.*\])$", matrix))[0] == only(
        r'^dependencies = \["torch>=([\d.]+)"', PYPROJECT
    )
    wheels = only(r"^ +python: \[(.*)\]$", (ROOT / ".github/workflows/wheels.yml").read_text())
    assert wheels.split(", ") == [f"cp{python.replace('.', '')}" for python in pythons]


def test_the_citation_is_of_this_version() -> None:
    version = only(r'^version = "(.*)"$', PYPROJECT)
    assert only(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text()) == version
